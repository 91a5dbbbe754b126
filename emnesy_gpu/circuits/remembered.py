"""Steps that are computed once for all positions that are alike, as those of the rows of a grid are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import DEAD

States = NDArray[np.int64]

UNKNOWN = -2
"""In a table of successors: nobody has asked yet."""
GREATEST = np.iinfo(np.int64).max
"""Above all states."""


class Steps(Protocol):
    """A program of two values a symbol, by its states: integers >= 0, DEAD where a value is forbidden."""

    start: int

    def successors(self, states: States, position: int) -> States:
        """[S] -> [S, 2]."""

    def frontier(self, position: int) -> Hashable:
        """Equal for positions, and the end, before which states mean the same."""

    def kind(self, position: int) -> Hashable:
        """Equal for positions with the same frontiers before and after them and the same successors of states."""


class Remembered:
    """The same program on numbers of states, given as they are found: successors are rows of a table for each kind."""

    start = 0

    def __init__(self, steps: Steps, n_positions: int) -> None:
        self._steps, self._n_positions = steps, n_positions
        self._found: dict[Hashable, _Numbers] = defaultdict(_Numbers)
        self._tables: dict[Hashable, States] = defaultdict(lambda: np.empty((0, 2), np.int64))
        self._before(0).of(np.array([steps.start]))

    def step(self, numbers: States, values: States, position: int) -> States:
        """[S, 1] and [1, 2] -> [S, 2]."""
        before, asked, kind = self._before(position), numbers[:, 0], self._steps.kind(position)
        table = self._tables[kind]
        if len(table) < len(before.states):
            table = np.full((len(before.states), 2), UNKNOWN)
            table[: len(self._tables[kind])] = self._tables[kind]
            self._tables[kind] = table
        fresh = asked[table[asked, 0] == UNKNOWN]
        if len(fresh):
            table[fresh] = self._before(position + 1).of(self._steps.successors(before.states[fresh], position))
        return table[asked]

    def last_states(self, numbers: States) -> States:
        """What numbers after the last position stand for."""
        return self._before(self._n_positions).states[numbers]

    def _before(self, position: int) -> _Numbers:
        return self._found[self._steps.frontier(position)]


class _Numbers:
    """Numbers of states, in the order in which they are found; states [S]."""

    def __init__(self) -> None:
        self.states = np.empty(0, np.int64)
        self._sorted, self._numbers = np.array([DEAD, GREATEST]), np.array([DEAD, DEAD])

    def of(self, states: States) -> States:
        """The number of each state; DEAD stays DEAD."""
        different, index = np.unique(states, return_inverse=True)
        place = np.searchsorted(self._sorted, different)
        numbers = self._numbers[place]
        fresh = np.flatnonzero(self._sorted[place] != different)
        if len(fresh):
            numbers[fresh] = np.arange(len(self.states), len(self.states) + len(fresh))
            self.states = np.concatenate([self.states, different[fresh]])
            self._sorted = np.insert(self._sorted, place[fresh], different[fresh])
            self._numbers = np.insert(self._numbers, place[fresh], numbers[fresh])
        return numbers[index.reshape(states.shape)]
