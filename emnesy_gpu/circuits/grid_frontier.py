"""Paths through a grid as programs that read one cell or one edge after the other."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits.path_frontier import (
    ALONE,
    BITS,
    CLOSED,
    DEAD,
    FOUND,
    FREE,
    LEFT_END,
    RIGHT_END,
    TO_SOURCE,
    TO_TARGET,
    Codes,
    Flags,
    Frontier,
    States,
    unpacked,
    with_place,
)


class Grid(NamedTuple):
    """A grid whose vertices are numbered in row-major order, and the ends of the paths through it."""

    height: int
    width: int
    source: int
    target: int

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Each vertex with its right and its lower neighbour, in the order in which the program reads them."""
        n = self.height * self.width
        right = [(v, v + 1) for v in range(n) if v % self.width < self.width - 1]
        down = [(v, v + self.width) for v in range(n - self.width)]
        return sorted(right + down)

    def end(self, vertex: int) -> int:
        """The code of the source or of the target before its neighbour is known, FREE for all other vertices."""
        return {self.source: TO_SOURCE, self.target: TO_TARGET}.get(vertex, FREE)


def label(states: States) -> NDArray[np.int64]:
    """1 for states in which the path is found, and -1, no label, for all others."""
    return np.where(states == FOUND, 1, -1)


class EdgePaths:
    """Edges of the grid that form one path from the source to the target; value 1 for an edge on the path.

    The frontier has a place for each column, for the lowest vertex that an edge has touched.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid, self.edges = grid, grid.edges
        self.start = int(sum(grid.end(vertex) << BITS * vertex for vertex in range(grid.width)))

    def frontier(self, position: int) -> Hashable:
        return self.kind(min(position, len(self.edges) - 1))[:2]

    def kind(self, position: int) -> tuple[int, bool, bool, int]:
        (here, there), width = self.edges[position], self.grid.width
        downwards = there == here + width
        return here % width, downwards, here // width == self.grid.height - 1, self.grid.end(there) * downwards

    def successors(self, states: States, position: int) -> States:
        """[S] -> [S, 2]."""
        column, downwards, is_last_row, end = self.kind(position)
        codes = unpacked(states, self.grid.width)
        if downwards:  # the vertex below comes to the right of the one that it replaces
            codes = with_place(codes, column + 1, end)
        frontier = Frontier.of(np.concatenate([codes, codes], 1))
        frontier.second_half().connect(column, column + 1)
        if downwards:
            after = frontier.left_behind(column)
        elif is_last_row:  # nothing else touches the left vertex
            after = frontier.forgotten(column)
        else:
            after = frontier.states()
        return _with_found(states, after, may_end=True)


class CellPaths:
    """Cells of the grid that form one path without chords: cells of the path touch only if one follows the other.

    Value 1 for a cell on the path. The set of cells then tells their order. With diagonals a cell touches eight others,
    and no two pieces cross: four cells of a square would touch each other. Before column c the frontier has c cells of
    the row, then those of the row above from column c - 1 on.

    Few sets of cells are paths: a step looks ahead for ends that cannot be left, and drops most states that lead
    nowhere before they have successors.
    """

    start = 0

    def __init__(self, grid: Grid, diagonals: bool) -> None:
        self.grid, self.diagonals = grid, diagonals
        self.reach = 1 if diagonals else 0

    def frontier(self, position: int) -> Hashable:
        return position % self.grid.width, position == 0

    def kind(self, position: int) -> tuple[int, bool, bool, int]:
        row, column = divmod(position, self.grid.width)
        return column, row == 0, row == self.grid.height - 1, self.grid.end(position)

    def successors(self, states: States, position: int) -> States:
        """[S] -> [S, 2]."""
        width, (column, is_first_row, is_last_row, end) = self.grid.width, self.kind(position)
        codes = unpacked(states, width + 1)
        if column == 0 and not is_first_row:  # the row above moves by one place
            codes = with_place(codes[:width], 0, FREE)
        frontier = Frontier.of(np.concatenate([with_place(codes, column, code) for code in (FREE, end or ALONE)], 1))
        taken = frontier.second_half()
        for place in self._touched(column):
            taken.connect(column, place, only_if_present=True)
        self._limit_below(frontier, column, is_last_row)
        if column < width - 1:
            self._limit_above(frontier, column)
            after = frontier.left_behind(column + 1)
        else:
            after = frontier.left_behind(column + 1, column + 2)
        return _with_found(states, after, may_end=end == FREE)

    def _touched(self, column: int) -> list[int]:
        """Places of the cells that a new one at place column touches: on its left and above it."""
        left = [column - 1] if column else []
        if not self.diagonals:
            return [*left, column + 2]
        above_left = [column + 1] if column else []
        return [*left, *above_left, column + 2, *([column + 3] if column < self.grid.width - 1 else [])]

    def _limit_below(self, frontier: Frontier, column: int, is_last_row: bool) -> None:
        """Places of the row whose cells below touch no cell of the row that is still unread."""
        width, reach = self.grid.width, self.reach
        none = np.zeros_like(frontier.dead)
        last = column if column == width - 1 else column - 1 - reach
        for place in range(max(column - 1 - reach, 0), last + 1):
            cells = () if is_last_row else range(max(place - reach, 0), min(place + reach + 1, width))
            ways = {cell - place: way_below(frontier.codes[: column + 1], cell, reach) for cell in cells}
            frontier.limit(place, ways.get(-1, none), ways.get(0, none), ways.get(1, none))

    def _limit_above(self, frontier: Frontier, column: int) -> None:
        """Places of the row above, from that above the column on, which touch the next cell of the row."""
        above, after = column + 2, column + 3
        none = np.zeros_like(frontier.dead)
        if self.diagonals:
            touched = frontier.codes[[column, *range(above, min(above + 3, self.grid.width + 2))]]
            frontier.limit(above, none, (touched != CLOSED).all(0), none)
            frontier.limit(after, none, ~none, none)  # it also touches a cell next to that one
        else:
            frontier.limit(above, none, none, none)
            frontier.limit(after, none, frontier.codes[column] != CLOSED, none)


def _with_found(states: States, after: States, *, may_end: bool) -> States:
    """[S, 2] of [2 S], the symbol off the path and on it: once the path is found nothing more may be on it.

    may_end: the symbol may be off the path.
    """
    found = states == FOUND
    without, taken = after.reshape(2, -1)
    without[found] = FOUND
    taken[found] = DEAD
    if not may_end:
        without[:] = DEAD
    return after.reshape(2, -1).T


def way_below(codes: Codes, cell: int, reach: int) -> Flags:
    """Whether the cell below a place of a row can still be on the path [S]; it touches reach places on either side.

    It must not touch a CLOSED vertex, and not join the two ends of one piece, or stand beside a cell that has to be on
    the path and joins them with it.

    >>> codes = np.array([[LEFT_END], [RIGHT_END], [FREE], [CLOSED]], np.int8)
    >>> [bool(way_below(codes, cell, reach=0)[0]) for cell in range(4)]
    [True, False, True, False]
    """
    blocked = (codes[max(cell - reach, 0) : cell + reach + 1] == CLOSED).any(0)
    for left, right in combinations(codes[max(cell - 1, 0) : cell + reach + 1], 2):
        blocked |= (left == LEFT_END) & (right == RIGHT_END)
    return ~blocked
