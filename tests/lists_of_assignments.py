"""Lists of valid assignments for enumeration, uint8 [M, N]."""

from __future__ import annotations

import itertools
from functools import cache

import torch
from torch import Tensor

SIDE = 4


@cache
def grids() -> Tensor:
    """The 288 grids of a 4 x 4 Sudoku: four rows whose columns and boxes are all different."""
    rows = list(itertools.permutations(range(SIDE)))
    upper = [pair for pair in itertools.product(rows, rows) if _boxes_differ(*pair)]
    both = [top + bottom for top, bottom in itertools.product(upper, upper)]
    found = [sum(four, ()) for four in both if all(len(set(column)) == SIDE for column in zip(*four, strict=True))]
    return torch.tensor(found, dtype=torch.uint8)


def _boxes_differ(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return all(len({*first[c : c + 2], *second[c : c + 2]}) == SIDE for c in (0, 2))


def every(n_symbols: int, n_values: int) -> Tensor:
    """All assignments, in lexicographic order."""
    return torch.tensor(list(itertools.product(range(n_values), repeat=n_symbols)), dtype=torch.uint8)


def random_list(size: int, n_symbols: int, n_values: int) -> Tensor:
    """Distinct assignments in random order."""
    chosen = torch.randperm(n_values**n_symbols, generator=torch.Generator().manual_seed(size))[:size]
    digits = [chosen // n_values**i % n_values for i in range(n_symbols)]
    return torch.stack(digits, 1).to(torch.uint8)
