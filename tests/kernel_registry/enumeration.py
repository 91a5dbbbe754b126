"""Lists of assignments: 4 x 4 Sudoku, and a list of two blocks of assignments."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of
from tests.lists_of_assignments import grids, random_list

_MORE: dict[str, tuple[float, ...]] = {
    "posterior": (),
    "em_gradient": (0.3,),
    "map_assignment": (),
    "sample": (2, 7, 0),
}
_LISTS = {"4 x 4 Sudoku": (partial(grids), 4), "of 600": (partial(random_list, 600, 6, 5), 5)}


def _entry(function: str, name: str, batch: int, dtype: torch.dtype = torch.float32, **options: Any) -> Entry:
    draw = partial(_draw, function, name, batch, dtype)
    return Entry("enumeration", function, f"{name}{SUFFIXES[dtype]}", draw, **{**tolerance_of(dtype), **options})


def _draw(function: str, name: str, batch: int, dtype: torch.dtype) -> tuple[Tensor | float, ...]:
    listed, k = _LISTS[name]
    assignments = listed()
    logits = 3.0 * torch.randn(batch, assignments.shape[1], k, generator=torch.Generator().manual_seed(0))
    return logits.to(dtype), torch.arange(batch) % 2, assignments, *_MORE[function]


ENTRIES = [
    _entry("posterior", "4 x 4 Sudoku", 7, variants=True),
    _entry("em_gradient", "4 x 4 Sudoku", 7, variants=True),
    _entry("map_assignment", "4 x 4 Sudoku", 7, variants=True),
    _entry("sample", "4 x 4 Sudoku", 7, variants=True),
    _entry("posterior", "of 600", 3),
    _entry("posterior", "4 x 4 Sudoku", 7, torch.float64, slow=True),
    _entry("posterior", "4 x 4 Sudoku", 7, torch.bfloat16, slow=True),
    _entry("em_gradient", "of 600", 3, slow=True),
    _entry("em_gradient", "4 x 4 Sudoku", 7, torch.float64, slow=True),
    _entry("sample", "of 600", 3, slow=True),
    _entry("map_assignment", "of 600", 3, torch.float64, slow=True),
]
