"""How close engines come to the exact posterior of rules that are given as functions.

python -m tests.black_box_engines prints the table of the docstring of em.BlackBox. It takes a few minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.engines import SETTINGS
from emnesy_gpu.inference import joint_table

ENGINES = {
    "default": SETTINGS[em.BlackBox],
    "em.ABC()": em.ABC(),
    "em.Gibbs()": em.Gibbs(),
    "rejection": em.Rejection(),
}
READS = ("little", "half", "most")


class Task(NamedTuple):
    """A rule, symbols that fit it (generator, rows) -> z, and their labels."""

    rule: em.BlackBox
    draw: Callable[[torch.Generator, int], Tensor]
    label: Callable[[Tensor], Tensor]


def parity(z: Tensor) -> Tensor:
    return z.sum(-1) % 2


def kakuro(z: Tensor, y: Tensor) -> Tensor:
    ordered = z.sort(-1).values
    return (ordered[..., 1:] != ordered[..., :-1]).all(-1).long() + (total(z) == y)


def total(z: Tensor) -> Tensor:
    return z.sum(-1) + z.shape[-1]


def five(z: Tensor) -> Tensor:
    return z.sum(-1) == 5


def word(z: Tensor) -> Tensor:
    """Whether the symbols match 0*1+2*."""
    return (z[..., 1:] >= z[..., :-1]).all(-1) & (z == 1).any(-1)


def _five_of_16(generator: torch.Generator, rows: int) -> Tensor:
    return (torch.rand(rows, 16, generator=generator).argsort(-1) < 5).long()


def _words(generator: torch.Generator, rows: int) -> Tensor:
    z = torch.randint(0, 3, (rows, 10), generator=generator)
    z[:, 0] = 1
    return z.sort(-1).values


def _kakuro(cells: int) -> Task:
    def draw(generator: torch.Generator, rows: int) -> Tensor:
        return torch.rand(rows, 9, generator=generator).argsort(-1)[:, :cells]

    return Task(em.BlackBox(kakuro, latent_shape=(cells,), cardinality=9, n_constraints=2), draw, total)


TASKS = {
    "parity of 12 bits": Task(
        em.BlackBox(label=parity, latent_shape=(12,), cardinality=2),
        lambda generator, rows: torch.randint(0, 2, (rows, 12), generator=generator),
        parity,
    ),
    "Kakuro, 5 cells": _kakuro(5),
    "Kakuro, 6 cells": _kakuro(6),
    "exactly 5 of 16": Task(em.BlackBox(label=five, latent_shape=(16,), cardinality=2), _five_of_16, five),
    "0*1+2*, 10 symbols": Task(em.BlackBox(label=word, latent_shape=(10,), cardinality=3), _words, word),
}


def read(z: Tensor, cardinality: int, how_much: str, generator: torch.Generator) -> Tensor:
    """Logits of a net that reads the symbols z [rows, n] to this degree."""
    noise = 0.5 * torch.randn(*z.shape, cardinality, generator=generator)
    known = torch.rand(z.shape, generator=generator)[..., None] < 0.5
    certainty = {"little": 0.5, "half": 4.0 * known, "most": 4.0}[how_much]
    return noise + certainty * torch.nn.functional.one_hot(z, cardinality)


def exact(rule: em.BlackBox, logits: Tensor, label: Tensor) -> Tensor:
    """Marginals, also of rules that em.Exact does not take, by all assignments."""
    z = joint_table.assignments(rule.cardinalities, logits.device)
    rows = []
    for row, row_label in zip(logits, label, strict=True):
        has_label = (rule.satisfied(z[:, None], row_label[None]) == rule.n_constraints).T
        rows.append(joint_table.posterior(row[None].double(), rule.cardinalities, has_label)[0])
    return torch.cat(rows).float()


def variations(task: Task, how_much: str, rows: int) -> dict[str, float]:
    """Mean total variation to the exact posterior: of the prior and of each engine."""
    generator = torch.Generator().manual_seed(1)
    z = task.draw(generator, rows)
    label, logits = task.label(z).long(), read(z, task.rule.cardinality, how_much, generator)
    right = exact(task.rule, logits, label)
    found = {name: em.posterior(task.rule, logits, label, engine).marginals for name, engine in ENGINES.items()}
    found["the prior"] = logits.softmax(-1)
    return {name: float((marginals - right).abs().sum(-1).mean() / 2) for name, marginals in found.items()}


def lines(rows: int = 48) -> Iterator[str]:
    columns = ["the prior", *ENGINES]
    yield " ".join([f"{'rule':20s}", *(f"{name:17s}" for name in columns)])
    for name, task in TASKS.items():
        by_net = [variations(task, how_much, rows) for how_much in READS]
        cells = [" ".join(f"{one[column]:.3f}".removeprefix("0") for one in by_net) for column in columns]
        yield " ".join([f"{name:20s}", *(f"{cell:17s}" for cell in cells)])


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
