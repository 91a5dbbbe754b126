"""What makes the M-step fast on a CPU, measured: forward and backward of LeNet, as ratios to plain PyTorch.

    python -m profiling.m_step [--images 200] [--threads 1]

The variants take turns in one process; CPU time, medians. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from emnesy_gpu.tasks.mnist.nets import lenet

ROUNDS = 60


def plain_lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(6, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def variants(n_images: int) -> dict[str, Callable[[], None]]:
    """A gradient of each kind of net, on the same images."""
    images = torch.randn(n_images, 1, 28, 28)
    last = images.contiguous(memory_format=torch.channels_last)
    compiled: Any = torch.compile(plain_lenet())
    nets: dict[str, tuple[Any, Tensor, bool]] = {
        "plain PyTorch": (plain_lenet(), images, False),
        "channels last": (plain_lenet().to(memory_format=torch.channels_last), last, False),
        "bfloat16 autocast": (plain_lenet(), images, True),
        "bfloat16 autocast, channels last": (plain_lenet().to(memory_format=torch.channels_last), last, True),
        "torch.compile": (compiled, images, False),
        "gradients at the winners of pools": (lenet(), last, False),
    }
    return {name: lambda case=case: _gradient(*case) for name, case in nets.items()}


def _gradient(net: Any, images: Tensor, bfloat16: bool) -> None:
    net.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = net(images)
    logits.float().logsumexp(-1).sum().backward()


def measure(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median CPU seconds of each; warm-up, compilation included, comes first."""
    for call in calls.values():
        for _ in range(3):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.process_time()
            call()
            seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="Per gradient.")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    medians = measure(variants(options.images))
    plain = medians["plain PyTorch"]
    print("| net | ms | times faster |\n|---|---|---|")
    for name, seconds in medians.items():
        print(f"| {name} | {1e3 * seconds:.2f} | {plain / seconds:.2f} |")


if __name__ == "__main__":
    main()
