"""Inputs that every back end must agree on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import emnesy_gpu as em


@dataclass(frozen=True)
class Case:
    """One problem and how its logits and labels are drawn."""

    n_digits: int
    base: int = 10
    n_addends: int = 2
    batch: int = 5
    sd: float = 2.0
    hard_zeros: float = 0.0
    seed: int = 0

    @property
    def problem(self) -> em.Addition:
        return em.Addition(self.n_digits, self.base, self.n_addends)

    def draw(self) -> tuple[Tensor, Tensor]:
        """float32 logits, and the label of an assignment that keeps positive probability."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.batch, self.n_addends, self.n_digits)
        z = torch.randint(0, self.base, shape, generator=generator)
        logits = torch.randn(*shape, self.base, generator=generator) * self.sd
        excluded = torch.rand(logits.shape, generator=generator) < self.hard_zeros
        excluded.scatter_(-1, z[..., None], False)
        logits.masked_fill_(excluded, float("-inf"))
        return logits, self.problem.label(z)

    def __str__(self) -> str:
        parts = [f"n{self.n_digits}", f"base{self.base}", f"k{self.n_addends}", f"sd{self.sd:g}"]
        return "-".join(parts + (["zeros"] if self.hard_zeros else []))


def every_kind_of_row(n_digits: int, n_addends: int = 2, base: int = 10) -> tuple[Tensor, Tensor]:
    """Ordinary, NaN, +inf, nothing left, a label digit out of range, a label too large, no digits left, ordinary."""
    logits, label = Case(n_digits, base, n_addends, batch=8).draw()
    logits[1, 0, 0, 3] = float("nan")
    logits[2, 1, -1, 0] = float("inf")
    logits[3, 1, -1] = float("-inf")
    label[4, -1] = base
    label[5, 0] = n_addends
    logits[6, :, -1, 1:] = float("-inf")
    label[6, -1] = base // 2
    return logits, label


SMALL = [
    Case(n, base, k, batch=3) for n in (1, 2, 3) for base in (2, 3, 10) for k in (2, 3, 4) if base ** (k * n) <= 20_000
] + [Case(2, 3, 2, hard_zeros=0.4, seed=1), Case(2, 2, 3, hard_zeros=0.4, seed=2), Case(1, 10, 2, batch=1)]

LONG = [
    Case(4),
    Case(15, batch=7),
    Case(16),
    Case(17, base=16),
    Case(33, base=2),
    Case(100, batch=3),
    Case(129, base=3),
    Case(200, batch=2),
    Case(5, base=32, batch=2),
    Case(7, base=5, n_addends=3),
    Case(40, base=3, n_addends=4, batch=2),
]

EXTREME = [
    Case(n, base, k, sd=sd, hard_zeros=zeros, batch=6)
    for n, base, k in ((4, 10, 2), (15, 10, 2), (100, 10, 2), (5, 3, 3))
    for sd in (1.0, 30.0, 1e3, 1e4)
    for zeros in (0.0, 0.3)
]
