"""Belief propagation with all-different factors: a graph of groups of all sizes, and 4 x 4 and 9 x 9 Sudoku."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.boards import filled_board, soft_logits
from tests.graphs import sudoku_groups
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

_IRREGULAR = [[0, 1, 2], [3, 4, -1], [0, 3, 5], [5, 6, -1], [0, 6, 4]]


def _entry(name: str, draw: Any, dtype: torch.dtype = torch.float32, maximise: bool = False, **options: Any) -> Entry:
    case = f"{name}{' max' if maximise else ''}{SUFFIXES[dtype]}"
    drawn = partial(draw, dtype=dtype, maximise=maximise)
    return Entry("all_different", "belief_propagation", case, drawn, **{**tolerance_of(dtype), **options})


def irregular(n_values: int, scale: float, dtype: torch.dtype, maximise: bool) -> tuple[Any, ...]:
    """Groups in phases that overlap; the last row has hard zeros."""
    logits = scale * torch.randn(4, 8, n_values, generator=torch.Generator().manual_seed(n_values))
    logits[-1, 0, 1:] = float("-inf")
    groups = torch.tensor(_IRREGULAR, dtype=torch.int32)
    return logits.to(dtype), torch.tensor([1, 1, 0, 1]), groups, [2, 3], 2, 0.25, 1e-4, maximise


def sudoku(size: int, batch: int, sweeps: int, dtype: torch.dtype, maximise: bool) -> tuple[Any, ...]:
    logits = soft_logits(filled_board(size).expand(batch, size, size), 2.0, seed=size).flatten(1, 2).to(dtype)
    return logits, torch.arange(batch) % 2, sudoku_groups(size), [size] * 3, sweeps, 0.0, 0.0, maximise


def _decimate(draw: Any, dtype: torch.dtype) -> tuple[Any, ...]:
    """Labels of every kind, and a row that float32 cannot hold."""
    logits, label, groups, phases, *_ = draw(dtype=dtype, maximise=True)
    label = torch.arange(len(label)) % 3
    logits[0] *= 300.0
    return logits, label, groups, phases


def _decimation(name: str, draw: Any, dtype: torch.dtype = torch.float32, **options: Any) -> Entry:
    drawn = partial(_decimate, draw, dtype)
    return Entry("all_different", "decimate", f"{name}{SUFFIXES[dtype]}", drawn, interpreted=False, **options)


ENTRIES = [
    _decimation("irregular K=3", partial(irregular, 3, 1.0), every_target=True),
    _decimation("irregular K=3", partial(irregular, 3, 1.0), torch.float64, slow=True),
    _decimation("4 x 4 Sudoku", partial(sudoku, 4, 5, 1), slow=True),
    _decimation("irregular K=9", partial(irregular, 9, 1.0), slow=True),
    _entry("irregular K=3", partial(irregular, 3, 1.0), variants=True),
    _entry("4 x 4 Sudoku", partial(sudoku, 4, 5, 1), interpreted=False),
    _entry("irregular K=3 extreme", partial(irregular, 3, 3000.0), slow=True),
    _entry("irregular K=3", partial(irregular, 3, 1.0), maximise=True, slow=True),
    _entry("irregular K=3", partial(irregular, 3, 1.0), torch.bfloat16, slow=True),
    _entry("irregular K=3", partial(irregular, 3, 1.0), torch.float64, slow=True),
    _entry("irregular K=12", partial(irregular, 12, 1.0), slow=True, interpreted=False),
    _entry("9 x 9 Sudoku", partial(sudoku, 9, 2, 1), slow=True, interpreted=False),
    _entry("9 x 9 Sudoku", partial(sudoku, 9, 2, 1), maximise=True, slow=True, interpreted=False),
]
