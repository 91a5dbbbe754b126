"""How training on several processes scales: steps of LeNet on 4-digit addition, 1 thread a process, gloo.

    python -m profiling.scaling [--ranks 1 2] [--rows 30] [--steps 60]

The images are random. "whole batch" divides the rows among the processes; "each" gives all of them to every process.
Prints a Markdown table: medians of the slowest process, and the time of one all-reduce of the gradient by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

import emnesy_gpu as em
from emnesy_gpu.tasks.core.distributed import Ranks, current, joined
from emnesy_gpu.tasks.mnist.nets import lenet

DIGITS = 4
WARM_UP = 5
PORT = 29_611


class Reader(nn.Module):
    """Images [rows, 2, DIGITS, 28, 28] -> logits of every digit."""

    def __init__(self) -> None:
        super().__init__()
        self.net = lenet()

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(0, 2).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        return self.net(flat).unflatten(0, images.shape[:3])


def median_of_slowest(call: Callable[[], object], steps: int, ranks: Ranks) -> float:
    """The median seconds of a call that all processes make together."""
    seconds = []
    for step in range(WARM_UP + steps):
        began = time.perf_counter()
        call()
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    (nanoseconds,) = ranks.largest(round(1e9 * statistics.median(seconds)))
    return nanoseconds / 1e9


def step_of(rows: int, ranks: Ranks) -> Callable[[], object]:
    """A step of EM on a batch of random images."""
    torch.manual_seed(ranks.rank)
    problem = em.Addition(n_digits=DIGITS)
    model = ranks.replicated(Reader())
    trainer = em.EM(model, problem, torch.optim.AdamW(model.parameters(), fused=True))
    images = torch.randn(rows, 2, DIGITS, 28, 28)
    label = problem.label(torch.randint(0, 10, (rows, 2, DIGITS)))
    return lambda: trainer.step(images, label)


def measure(rows: int, steps: int) -> None:
    ranks = current()
    gradient = torch.zeros(sum(weight.numel() for weight in Reader().parameters()))
    reduction = median_of_slowest(lambda: dist.all_reduce(gradient), steps, ranks) if ranks.size > 1 else 0.0
    for name, mine in (("whole batch", ranks.part(rows).size), ("each", rows)):
        seconds = median_of_slowest(step_of(mine, ranks), steps, ranks)
        total = rows if name == "whole batch" else rows * ranks.size
        words = f"{ranks.size} | {rows}, {name} | {1e3 * seconds:.2f} | {total / seconds:.0f} | {1e3 * reduction:.2f}"
        if ranks.is_first:
            print(f"| {words} |", flush=True)


def start(size: int, arguments: list[str]) -> None:
    """Run this module on some processes, and wait for them."""
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(PORT + size)}
    command = [sys.executable, "-m", "profiling.scaling", *arguments]
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    children = [subprocess.Popen(command, env=os.environ | shared | place) for place in places]
    codes = [child.wait() for child in children]
    if any(codes):
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        with joined():
            measure(options.rows, options.steps)
        return
    print("| processes | rows | ms a step | rows a second | ms of an all-reduce |\n|---|---|---|---|---|", flush=True)
    for size in options.ranks:
        start(size, ["--rows", str(options.rows), "--steps", str(options.steps)])


if __name__ == "__main__":
    main()
