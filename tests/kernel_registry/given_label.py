"""Marginals given label 0 from those given label 1: rows of every kind, on a ring and on 4 x 4 Sudoku."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from emnesy_gpu.kernels.status import INVALID_LABEL, POSSIBLE
from tests.graphs import adjacency, sudoku_pairs
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

_RING = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]


def _draw(pairs: list[tuple[int, int]], n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """Rows with label 1, with a certain mode that is valid or is not, without an invalid assignment, and others."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, n, k, generator=generator, dtype=torch.float64)
    colours = _colours(adjacency(pairs, n)[0], k)
    certain = 60.0 * torch.nn.functional.one_hot(colours, k)
    logits[1] += certain
    logits[2] += 60.0 * torch.nn.functional.one_hot(torch.zeros_like(colours), k)
    logits[3] = torch.where(certain > 0, 0.0, float("-inf"))
    valid = torch.softmax(logits + torch.randn(7, n, k, generator=generator), -1)
    log_valid = -4.0 * torch.rand(7, generator=generator, dtype=torch.float64)
    log_valid[3] = 0.0
    status = torch.full((7,), POSSIBLE, dtype=torch.uint8)
    label = torch.tensor([1, 0, 0, 0, 0, 2, 0])
    status[5] = INVALID_LABEL
    return logits.to(dtype), label, adjacency(pairs, n)[0], (valid.to(dtype), log_valid.to(dtype), status)


def _colours(neighbours: torch.Tensor, k: int) -> torch.Tensor:
    """A valid assignment, by greedy choice."""
    colours: list[int] = []
    for i, row in enumerate(neighbours.tolist()):
        taken = {colours[j] for j in row if 0 <= j < i}
        colours.append(min(set(range(k)) - taken))
    return torch.tensor(colours)


def _draw_map(dtype: torch.dtype) -> tuple[Any, ...]:
    logits, label, _, (valid, _, status) = _draw(_RING, 5, 3, dtype)
    return logits, label, torch.tensor(_RING).T.contiguous(), valid.argmax(-1), status


def _entry(name: str, pairs: list[tuple[int, int]], n: int, k: int, dtype: torch.dtype, **options: Any) -> Entry:
    drawn = partial(_draw, pairs, n, k, dtype)
    return Entry("given_label", "given_label", f"{name}{SUFFIXES[dtype]}", drawn, **tolerance_of(dtype), **options)


ENTRIES = [
    _entry("ring", _RING, 5, 3, torch.float32, every_target=True),
    _entry("ring", _RING, 5, 3, torch.float64),
    _entry("4 x 4 Sudoku, nine values", sudoku_pairs(4), 16, 9, torch.float32, slow=True, interpreted=False),
    Entry("given_label", "map_given_label", "ring", partial(_draw_map, torch.float32), every_target=True),
]
