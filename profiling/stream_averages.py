"""Online EM on a stream that drifts: targets of the net itself, or of a stepwise average of its weights.

    python -m profiling.stream_averages        # prints the table of docs/em_variants.md, one minute on one CPU core

The E-step takes the weights a <- a + rate * (net - a), updated after every step, with a constant rate or one that
decays. The pictures of ten digits are rotated a little in every step; only sums of two 2-digit numbers are
seen, four in a step. The table has the digits that are right over steps 100 to 400, before each step, and the mean over
seeds with the lowest one in brackets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.optim.swa_utils import AveragedModel

import emnesy_gpu as em

PROBLEM, SIZE, BATCH, STEPS, COUNTED, SEEDS = em.Addition(n_digits=2), 16, 4, 400, 100, 8
NOISE = 0.25
SPEEDS = (0.0, 1e-3, 4e-3)
RATES: dict[str, Callable[[int], float] | None] = {
    "the net itself": None,
    "constant 0.5": lambda step: 0.5,
    "constant 0.1": lambda step: 0.1,
    "constant 0.02": lambda step: 0.02,
    "step^-0.6": lambda step: (step + 1) ** -0.6,
}


def drift(speed: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of pictures and their digits."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator))[0][:10]
    turn = torch.randn(SIZE, SIZE, generator=generator) / SIZE**0.5
    rotation = torch.matrix_exp(speed * (turn - turn.T))
    while True:
        z = torch.randint(0, 10, (BATCH, *PROBLEM.latent_shape), generator=generator)
        yield pictures[z] + NOISE * torch.randn(*z.shape, SIZE, generator=generator), z
        pictures = pictures @ rotation


def accuracy(speed: float, rate: Callable[[int], float] | None, seed: int) -> float:
    """The share of digits that are right before the net has seen their sum."""
    torch.manual_seed(seed)
    net = torch.nn.Linear(SIZE, 10)
    options = em.Options()
    if rate is not None:
        teacher = AveragedModel(net, avg_fn=lambda mean, new, step: mean + rate(int(step)) * (new - mean))
        options = em.Options(teacher=teacher, callbacks=[lambda *_: teacher.update_parameters(net)])
    trainer = em.EM(net, PROBLEM, torch.optim.Adam(net.parameters(), lr=0.05), options=options)
    right = []
    for _, (x, z) in zip(range(STEPS), drift(speed), strict=False):
        right.append((net(x).argmax(-1) == z).float().mean())
        trainer.step(x, PROBLEM.label(z))
    return float(torch.stack(right[COUNTED:]).mean())


def main() -> None:
    torch.set_num_threads(1)
    print("| targets of | " + " | ".join(f"drift {speed:g}" for speed in SPEEDS) + " |")
    print("|---" * (len(SPEEDS) + 1) + "|")
    for name, rate in RATES.items():
        cells = []
        for speed in SPEEDS:
            found = 100 * torch.tensor([accuracy(speed, rate, seed) for seed in range(SEEDS)])
            cells.append(f"{found.mean():.1f} ({found.min():.1f})")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
