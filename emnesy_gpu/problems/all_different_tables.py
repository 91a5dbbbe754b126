"""Integer tables of the groups of variables, for the kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MAX_ASSIGNMENTS = 4096
"""Valid assignments that are listed at most; exact inference costs as many products of N probabilities a row."""

MAX_FRONTIER = 1 << 16
"""Partial assignments beyond which the search for all valid ones gives up."""


class GroupTables(NamedTuple):
    """The groups as tables on one device.

    pairs: int64 [2, P], variables that must differ.
    groups: int32 [G, W], the variables of each group, padded with -1; runs of disjoint groups follow each other.
    neighbours: int32 [N, D], the variables that must differ from each variable, padded with -1.
    reverse: int32 [N, D], the slot of variable i in the row of neighbours[i, s], padded with -1.
    order: int32 [N], the variables in runs of which no two share a group.
    assignments: uint8 [M, N], all valid ones, or None where there are more than MAX_ASSIGNMENTS.
    """

    pairs: Tensor
    groups: Tensor
    neighbours: Tensor
    reverse: Tensor
    order: Tensor
    assignments: Tensor | None

    def to(self, device: torch.device) -> GroupTables:
        """The same tables on another device."""
        return GroupTables(*(None if table is None else table.to(device) for table in self))  # type: ignore[arg-type]


class Phases(NamedTuple):
    """Sizes of the runs in ``GroupTables.groups`` and ``order`` that a serial schedule updates at once."""

    groups: list[int]
    variables: list[int]


def checked_groups(groups: Iterable[Sequence[int]], n_variables: int, cardinality: int) -> list[tuple[int, ...]]:
    """The groups as tuples; raises TypeError or ValueError for the first group that is not allowed."""
    try:
        checked = [tuple(group) for group in groups]
    except TypeError:
        raise TypeError(f"groups must hold sequences of variables, such as [(0, 1), (1, 2)], got {groups!r}") from None
    if not checked:
        raise ValueError("groups must hold at least one group, got none")
    for index, group in enumerate(checked):
        if not all(isinstance(i, int) and not isinstance(i, bool) for i in group):
            raise TypeError(f"groups[{index}] must hold integers, got {group!r}")
        if not 2 <= len(group) <= cardinality:
            raise ValueError(f"groups[{index}] must have 2..{cardinality} members (cardinality), got {len(group)}")
        if len(set(group)) < len(group):
            raise ValueError(f"groups[{index}] must name every variable once, got {group!r}")
        if not all(0 <= i < n_variables for i in group):
            raise ValueError(f"groups[{index}] must hold variables in 0..{n_variables - 1}, got {group!r}")
    return checked


def make_tables(groups: list[tuple[int, ...]], n_variables: int, cardinality: int) -> tuple[GroupTables, Phases]:
    """The tables of checked groups on the CPU, and the sizes of their runs.

    Raises ValueError where the search for valid assignments shows that there are none.
    """
    pairs = sorted({pair for group in groups for pair in combinations(sorted(group), 2)})
    adjacent: list[list[int]] = [[] for _ in range(n_variables)]
    for first, second in pairs:
        adjacent[first].append(second)
        adjacent[second].append(first)
    group_runs = _colour([{j for j, other in enumerate(groups) if set(group) & set(other)} for group in groups])
    variable_runs = _colour([set(neighbours) for neighbours in adjacent])
    assignments = valid_assignments(adjacent, cardinality)
    if assignments is not None and len(assignments) == 0:
        raise ValueError(
            f"groups must leave at least one valid assignment, got {len(groups)} groups that no assignment of"
            f" {cardinality} values to {n_variables} variables satisfies"
        )
    tables = GroupTables(
        pairs=torch.tensor(pairs, dtype=torch.int64, device="cpu").T.contiguous(),
        groups=_padded([groups[g] for run in group_runs for g in run]),
        neighbours=_padded(adjacent),
        reverse=_padded([[adjacent[j].index(i) for j in neighbours] for i, neighbours in enumerate(adjacent)]),
        order=torch.tensor([i for run in variable_runs for i in run], dtype=torch.int32, device="cpu"),
        assignments=None if assignments is None else torch.from_numpy(assignments),
    )
    return tables, Phases([len(run) for run in group_runs], [len(run) for run in variable_runs])


def _colour(conflicts: list[set[int]]) -> list[list[int]]:
    """Greedy colouring: runs of members without conflicts, each member in the first run that it fits into."""
    runs: list[list[int]] = []
    for member, foes in enumerate(conflicts):
        for run in runs:
            if not foes & set(run):
                run.append(member)
                break
        else:
            runs.append([member])
    return runs


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """The rows as one table int32 [rows, longest], padded with -1."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows], dtype=torch.int32, device="cpu")


def valid_assignments(adjacent: list[list[int]], cardinality: int) -> np.ndarray | None:
    """All valid assignments, uint8 [M, N], in lexicographic order; None where there are too many."""
    found = np.zeros((1, 0), np.uint8)
    values = np.arange(cardinality, dtype=np.uint8)
    for i, neighbours in enumerate(adjacent):
        grown = np.concatenate([found.repeat(cardinality, 0), np.tile(values, len(found))[:, None]], 1)
        allowed = np.ones(len(grown), bool)
        for j in neighbours:
            if j < i:
                allowed &= grown[:, j] != grown[:, i]
        found = grown[allowed]
        if len(found) > MAX_FRONTIER:
            return None
    return found if len(found) <= MAX_ASSIGNMENTS else None
