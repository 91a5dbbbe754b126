"""Belief propagation with pairwise not-equal factors: a small graph, and 4 x 4 and 9 x 9 Sudoku."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.graphs import adjacency, greedy_phases, sudoku_pairs
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

_PAIRS = [(0, 1), (1, 2), (2, 0), (2, 3), (4, 5)]


def _entry(
    name: str, pairs: list[tuple[int, int]], n: int, k: int, scale: float = 1.0, dtype: torch.dtype = torch.float32,
    flooding: bool = False, maximise: bool = False, **options: Any,
) -> Entry:  # fmt: skip
    case = f"{name} K={k}{' flooding' if flooding else ''}{' max' if maximise else ''}{SUFFIXES[dtype]}"
    drawn = partial(_draw, pairs, n, k, scale, dtype, flooding, maximise)
    return Entry("not_equal", "belief_propagation", case, drawn, **{**tolerance_of(dtype), **options})


def _draw(
    pairs: list[tuple[int, int]], n: int, k: int, scale: float, dtype: torch.dtype, flooding: bool, maximise: bool
) -> tuple[Any, ...]:
    logits = scale * torch.randn(5, n, k, generator=torch.Generator().manual_seed(k))
    logits[-1, 0, 1:] = float("-inf")
    neighbours, reverse = adjacency(pairs, n)
    order, phases = greedy_phases(neighbours)
    phases = [n] if flooding else phases
    return logits.to(dtype), torch.arange(5) % 2, neighbours, reverse, order, phases, 2, 0.25, 1e-4, maximise


ENTRIES = [
    _entry("seven symbols", _PAIRS, 7, 3, variants=True),
    _entry("4 x 4 Sudoku", sudoku_pairs(4), 16, 4, flooding=True, interpreted=False),
    _entry("seven symbols extreme", _PAIRS, 7, 3, 3000.0, slow=True),
    _entry("seven symbols", _PAIRS, 7, 3, maximise=True, slow=True),
    _entry("seven symbols", _PAIRS, 7, 3, dtype=torch.bfloat16, slow=True),
    _entry("seven symbols", _PAIRS, 7, 3, dtype=torch.float64, slow=True),
    _entry("seven symbols", _PAIRS, 7, 200, slow=True, interpreted=False),
    _entry("9 x 9 Sudoku", sudoku_pairs(9), 81, 9, slow=True, interpreted=False),
]
