"""Paths through a grid as programs that read one cell or one edge after the other."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits.path_frontier import (
    ALONE,
    BITS,
    CLOSED,
    FOUND,
    FREE,
    TO_SOURCE,
    TO_TARGET,
    Frontier,
    Outcomes,
    States,
    Window,
    outcomes,
    places,
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
        if vertex == self.source:
            return TO_SOURCE
        return TO_TARGET if vertex == self.target else FREE


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

    def step(self, states: States, values: States, position: int) -> States:
        """[S, 1] and [1, 2] -> [S, 2]."""
        (here, there), width = self.edges[position], self.grid.width
        if there == here + width:
            outcome = _edge_downwards(self.grid.end(there))
        else:
            outcome = _edge_to_the_right(there >= width * (self.grid.height - 1))
        before = states[:, 0]
        return Frontier.after(before, here % width, outcome, width).successors(before, may_end=True)


@cache
def _edge_downwards(end: int) -> Outcomes:
    """The vertex below comes in the place of the one that leaves the frontier. end: its code without this edge."""
    windows = Window(1), Window(1)
    for window in windows:
        window.codes.append(np.full_like(window.codes[0], end))
    windows[1].connect(0, 1)
    for window in windows:
        window.leave(0)
        del window.codes[0]
    return outcomes(*windows)


@cache
def _edge_to_the_right(is_last_row: bool) -> Outcomes:
    """Of a vertex that has no other edge left, in the last row, or the edge down alone, which is no way through it."""
    windows = Window(2), Window(2)
    windows[1].connect(0, 1)
    for window in windows:
        if is_last_row:
            window.leave(0)
        else:
            window.codes[0] = np.maximum(window.codes[0], CLOSED)
    return outcomes(*windows)


class CellPaths:
    """Cells of the grid that form one path without chords: cells of the path touch only if one follows the other.

    Value 1 for a cell on the path. The set of cells then tells their order. With diagonals a cell touches eight others,
    and no two pieces cross: four cells of a square would touch each other. Before column c the frontier has c cells of
    the row, then those of the row above from column c - 1 on; the new cell takes the place of the first of these, which
    leaves the frontier. Above the first row all cells are FREE.

    Few sets of cells are paths: a step looks ahead for ends that cannot be left, and drops most states that lead
    nowhere before they have successors. Cells that cannot be on the path any more are CLOSED, so that states which
    differ in them alone are one.
    """

    start = 0

    def __init__(self, grid: Grid, diagonals: bool) -> None:
        self.grid, self.diagonals = grid, diagonals

    def step(self, states: States, values: States, position: int) -> States:
        """[S, 1] and [1, 2] -> [S, 2]."""
        width, end = self.grid.width, self.grid.end(position)
        column = position % width
        before = states[:, 0]
        here = before << BITS if column == 0 else before  # nothing is on the left of the row above
        outcome = _cell(end or ALONE, column == 0, column == width - 1, self.diagonals)
        frontier = Frontier.after(here, max(column - 1, 0), outcome, width + 1)
        self._look_ahead(frontier, position)
        return frontier.successors(before, may_end=end == FREE)

    def _without_ends(self, row: int, column: int) -> int:
        """The places whose next cell below is unread, as are its lower neighbours, and is no end of the path."""
        width = self.grid.width
        last = column == width - 1
        found = places(0, width) if last else places(0, column) | places(column + 2, width + 1)
        for end in (self.grid.source, self.grid.target):
            end_row, end_column = divmod(end, width)
            if end_row == row + 1:
                found &= ~places(end_column, end_column + 1)
            elif end_row == row and end_column > column:
                found &= ~places(end_column + 1, end_column + 2)
        return found

    def _look_ahead(self, frontier: Frontier, position: int) -> None:
        """Drop states with ends that cannot be left, and close cells that cannot be on the path."""
        width = self.grid.width
        row_number, column = divmod(position, width)
        codes, reach = CodeBits.of(frontier.states), 1 if self.diagonals else 0
        is_last = column == width - 1
        row = places(0, width if is_last else max(column - reach, 0))  # their neighbours in the row are read
        ways = ways_below_with_diagonals(codes, column, width) if self.diagonals else ways_below(codes)
        if row_number == self.grid.height - 1:
            ways = Ways(np.zeros_like(codes.free), np.zeros_like(codes.free))
        limited, some = row, ways.some & row
        if not is_last and self.diagonals:
            limited |= places(column + 1, column + 3)
            some |= ways_of_upper_row_with_diagonals(codes, column)
        elif not is_last:
            limited |= places(column + 2, column + 3)
            some |= ways_of_upper_row(codes, column)
        stuck = limited & ~some
        frontier.dead |= (codes.open & stuck | codes.alone & ~(ways.on_both_sides & row) & limited) != 0
        closing = codes.free & stuck
        if not self.diagonals:
            border = places(width - 1, width) if is_last else places(width, width + 1)
            without_ends = self._without_ends(row_number, column)
            enclosed = without_ends if is_last else without_ends & ~places(max(column - 1, 0), column)
            closing |= dead_ends(codes._replace(closed=codes.closed | closing), without_ends, enclosed, border)
        frontier.states |= closing


@cache
def _cell(code: int, is_first: bool, is_last: bool, diagonals: bool) -> Outcomes:
    """Of a cell without its neighbours, which gets a code where it is on the path.

    The places are those on its left, where there is one, of the cell, above it, and, with diagonals, on the right of
    that, where there is one. Before, the second is the cell above on the left.
    """
    here, n_places = (0, 2) if is_first else (1, 3)
    windows = [Window(n_places + (diagonals and not is_last)) for _ in range(2)]
    above_left, above, above_right = here + 1, here + 2, here + 3
    touched = [above]
    if diagonals:
        touched = [above_left] * (not is_first) + touched + [above_right] * (not is_last)
    for window, new in zip(windows, (FREE, code), strict=True):
        window.codes.insert(here, np.full_like(window.codes[0], new))
    if not is_first:
        windows[1].connect(0, here, only_if_present=0)
    for place in touched:
        windows[1].connect(here, place, only_if_present=place)
    for window in windows:
        window.leave(above_left)
        if is_last or not diagonals:
            window.leave(above)
        if not is_last and not diagonals:  # what the next cell of the row has on its left
            window.codes[above] = np.where(window.codes[here] <= CLOSED, CLOSED, FREE)
        del window.codes[above_left]
    return outcomes(*windows)


class CodeBits(NamedTuple):
    """The places of states that have some codes, by their lowest bits; other bits have no meaning [S]."""

    free: States
    closed: States
    open: States
    alone: States
    left_end: States
    right_end: States

    @classmethod
    def of(cls, states: States) -> CodeBits:
        second, third = states >> 1, states >> 2
        is_open = second | third
        even = ~states
        return cls(
            free=even & ~is_open,
            closed=states & ~is_open,
            open=is_open,
            alone=even & second & ~third,
            left_end=states & second,
            right_end=even & third & ~second,
        )


class Ways(NamedTuple):
    """By the lowest bits of places [S]: whether the path can go on from there to some cell, and on both sides."""

    some: States
    on_both_sides: States


def ways_below(codes: CodeBits) -> Ways:
    """The cell below must not touch a CLOSED vertex, nor stand beside one that joins the other end of the piece."""
    some = ~(codes.closed | codes.left_end << BITS & codes.right_end)
    return Ways(some, np.zeros_like(some))


def ways_of_upper_row(codes: CodeBits, column: int) -> States:
    """The same for the cell above on the right, whose next cell below follows the one that is read."""
    blocked = codes.closed | codes.left_end & codes.right_end >> 2 * BITS
    return ~blocked << 2 * BITS & places(column + 2, column + 3)


def ways_below_with_diagonals(codes: CodeBits, column: int, width: int) -> Ways:
    """A cell below must not touch a CLOSED vertex, and not join the two ends of one piece.

    Nor may it stand beside a cell that has to be on the path and joins them with it.
    """
    read = places(0, column + 1)
    closed, left_end, right_end = codes.closed & read, codes.left_end & read, codes.right_end & read
    pair = left_end & right_end >> BITS
    blocked = closed | closed << BITS | closed >> BITS
    blocked |= pair | pair << BITS | (left_end & right_end >> 2 * BITS) << BITS
    ways = ~blocked & places(0, width)
    return Ways(ways | ways << BITS | ways >> BITS, ways << BITS & ways >> BITS)


def ways_of_upper_row_with_diagonals(codes: CodeBits, column: int) -> States:
    """The cell above touches the next one of the row, and the cell on its right also one next to that."""
    closed = codes.closed
    blocked = closed | closed >> BITS | closed >> 2 * BITS | closed >> 3 * BITS
    return ~blocked << BITS & places(column + 1, column + 2) | places(column + 2, column + 3)


def dead_ends(codes: CodeBits, without_ends: int, enclosed: int, border: int) -> States:
    """FREE places above cells that would not have two neighbours on a path without chords.

    One cell, or two beside each other, without a neighbour on either side; or one between the two ends of one piece,
    which both must go down.

    without_ends: the places that may be closed, and enclosed: those among them between two that may. border: the last
    place.
    """
    between = codes.free & codes.left_end << BITS & codes.right_end >> BITS & enclosed
    closed, free = codes.closed | between, codes.free & without_ends
    ends_left, ends_right = free & (closed << BITS | 1), free & (closed >> BITS | border)
    two = ends_left & ends_right >> BITS
    return between | ends_left & ends_right | two | two << BITS
