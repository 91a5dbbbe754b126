"""The smallest deterministic tables with the same labels: equal states become one, useless states go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import DEAD

Table = NDArray[np.int64]
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number near 2^64 / golden ratio: powers of it spread the entries of a row over 64 bits."""


class Merged(NamedTuple):
    """A table of merged states; state_of [S]: the merged state of each original one, DEAD for those that are gone."""

    successor: Table
    state_of: Table


def minimise_shared(successor: Table, kinds: Table) -> Merged:
    """For one table that serves every position; Moore's partition refinement.

    kinds [S]: states of different kinds are never merged, DEAD marks states that nothing is observed of. Goes: what
    cannot be reached from state 0, and what can never come to a state with a kind. State 0 stays state 0.
    """
    useful = _useful(successor, kinds >= 0)
    useful[0] = True
    table = np.where((successor >= 0) & useful[successor], successor, DEAD)
    classes = number_rows(np.where(useful, kinds, DEAD - 1)[:, None])
    while True:
        renamed = np.where(table >= 0, classes[table], DEAD)
        finer = number_rows(np.column_stack([classes, renamed]))
        if finer.max() == classes.max():
            break
        classes = finer
    return _from_start(table, finer)


def _useful(successor: Table, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The states from which a wanted one can be reached."""
    useful = wanted.copy()
    while True:
        more = useful | ((successor >= 0) & useful[successor]).any(1)
        if (more == useful).all():
            return useful
        useful = more


def _from_start(table: Table, classes: Table) -> Merged:
    """One state a class, numbered breadth first from that of state 0; classes that are not reached go."""
    representative = np.zeros(classes.max() + 1, np.int64)
    representative[classes[::-1]] = np.arange(len(classes))[::-1]
    number = np.full(len(representative), DEAD, np.int64)
    number[classes[0]] = 0
    found = [int(classes[0])]
    for current in found:  # grows while it is read
        for target in table[representative[current]].tolist():
            if target >= 0 and number[classes[target]] < 0:
                number[classes[target]] = len(found)
                found.append(int(classes[target]))
    rows = table[representative[found]]
    return Merged(np.where(rows >= 0, number[classes[rows]], DEAD), number[classes])


def minimise_layers(tables: Sequence[Table], kinds: Sequence[Table]) -> tuple[list[Table], list[Table]]:
    """For a table a position, backwards: two states are one where their kinds and rows of successors are equal.

    kinds: n + 1 arrays [S_i] for the states before each position and after the last one; DEAD where nothing is
    observed. After the last position only states with a kind stay. Returns the tables, and for each of the n + 1 sets
    of states the merged state of each original one, DEAD for those that are gone.
    """
    useful = kinds[-1] >= 0
    state_of = [np.where(useful, number_rows(kinds[-1][:, None]), DEAD)]
    merged: list[Table] = []
    for table, kind in zip(reversed(tables), reversed(kinds[:-1]), strict=True):
        after = state_of[-1]
        rows = np.where(table >= 0, after[table], DEAD)
        alive = (rows >= 0).any(1)
        numbers = number_rows(np.column_stack([kind, rows]))
        state_of.append(np.where(alive, numbers, DEAD))
        merged.append(rows)
    merged.reverse()
    state_of.reverse()
    return _forwards(merged, state_of)


def _forwards(rows: list[Table], state_of: list[Table]) -> tuple[list[Table], list[Table]]:
    """Keep what is reached from state 0, and number it in the order in which it is reached."""
    tables, renamed = [], []
    current = np.array([state_of[0][0]]) if state_of[0][0] >= 0 else np.zeros(0, np.int64)
    for table, numbers in zip(rows, state_of, strict=False):
        position = _positions(current, numbers)
        renamed.append(np.where(numbers >= 0, position[numbers], DEAD))
        originals = _first_index(numbers, current)
        wanted = table[originals]
        reached, first = np.unique(wanted[wanted >= 0], return_index=True)
        current = reached[np.argsort(first, kind="stable")]
        place = _positions(current, np.append(wanted.ravel(), current))
        tables.append(np.where(wanted >= 0, place[wanted], DEAD))
    position = _positions(current, state_of[-1])
    renamed.append(np.where(state_of[-1] >= 0, position[state_of[-1]], DEAD))
    return tables, renamed


def _positions(kept: Table, numbers: Table) -> Table:
    """number -> its index in kept, DEAD where it is not."""
    position = np.full(max(int(numbers.max(initial=0)), int(kept.max(initial=0))) + 1, DEAD, np.int64)
    position[kept] = np.arange(len(kept))
    return position


def _first_index(numbers: Table, wanted: Table) -> Table:
    """Where each wanted number stands first."""
    first = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    known = np.flatnonzero(numbers >= 0)[::-1]
    first[numbers[known]] = known
    return first[wanted]


def number_rows(rows: Table) -> Table:
    """int64 [S]: equal rows get the same number, 0, 1, ...

    By a 64-bit hash of each row; should two different rows share one, by comparing the rows themselves.
    """
    if len(rows) == 0:
        return np.zeros(0, np.int64)
    powers = np.cumprod(np.full(rows.shape[1], MULTIPLIER, np.uint64))
    mixed = rows.astype(np.uint64) * powers
    mixed ^= mixed >> np.uint64(29)
    key = (mixed * MULTIPLIER).sum(1, dtype=np.uint64)
    _, first, numbers = np.unique(key, return_index=True, return_inverse=True)
    if (rows != rows[first[numbers]]).any():
        numbers = np.unique(rows, axis=0, return_inverse=True)[1]
    return numbers.reshape(-1)
