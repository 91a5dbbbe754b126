"""Factor graphs for belief propagation: Sudoku groups, and the adjacency tables of pairwise factors."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def sudoku_groups(side: int) -> Tensor:
    """Rows, then columns, then boxes: int32 [3 * side, side]."""
    box = math.isqrt(side)
    cells = torch.arange(side * side, dtype=torch.int32).view(side, side)
    boxes = cells.view(box, box, box, box).transpose(1, 2).reshape(side, side)
    return torch.cat([cells, cells.T, boxes])


def adjacency(pairs: Iterable[tuple[int, int]], n: int) -> tuple[Tensor, Tensor]:
    """Neighbours and reverse slots, int32 [n, D] padded with -1."""
    lists: list[list[int]] = [[] for _ in range(n)]
    for i, j in pairs:
        lists[i].append(j)
        lists[j].append(i)
    neighbours = torch.full((n, max(map(len, lists))), -1, dtype=torch.int32)
    reverse = neighbours.clone()
    for i, row in enumerate(lists):
        for s, j in enumerate(row):
            neighbours[i, s], reverse[i, s] = j, lists[j].index(i)
    return neighbours, reverse


def sudoku_pairs(side: int) -> list[tuple[int, int]]:
    """The pairs of cells that share a row, column or box, once each."""
    groups = sudoku_groups(side).tolist()
    return sorted({(i, j) for group in groups for i in group for j in group if i < j})


def greedy_phases(neighbours: Tensor) -> tuple[Tensor, list[int]]:
    """Symbols by the colours of a greedy colouring, and how many have each: an order of serial updates."""
    colours: list[int] = []
    for row in neighbours.tolist():
        taken = {colours[j] for j in row if 0 <= j < len(colours)}
        colours.append(next(c for c in range(len(row) + 1) if c not in taken))
    order = sorted(range(len(colours)), key=colours.__getitem__)
    return torch.tensor(order, dtype=torch.int32), [colours.count(c) for c in range(max(colours) + 1)]
