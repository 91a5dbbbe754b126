"""Paths through a grid as programs that read one cell or one edge after the other: the frontier method.

A state holds one code for every column: what is still asked of the vertex that lies on the frontier there.

    FREE        it is not on the path (of edges: not yet)
    CLOSED      it is on the path, and all its neighbours on the path are known
    ALONE       it is on the path, and none of its two neighbours is known (cells alone)
    LEFT_END, RIGHT_END     one neighbour is missing; the other end of its piece of the path is on the frontier, to the
                right or to the left: pieces nest like brackets, as the grid is planar
    TO_SOURCE, TO_TARGET    one neighbour is missing, and its piece ends in the source or in the target

When the pieces of the source and of the target meet, and no other one is open, the path is found: FOUND. (Knuth, "The
art of computer programming", volume 4A, 2011, section 7.1.4, exercise 225: Simpath.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.int64]

FREE, CLOSED, ALONE, LEFT_END, RIGHT_END, TO_SOURCE, TO_TARGET = range(7)
BITS = 3
MAX_WIDTH = 20
"""Columns whose codes fit in a state of 64 bits, with FOUND beside them."""
FOUND = np.int64(1) << 62
DEAD = np.int64(-1)


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

    def first_code(self, vertex: int) -> int:
        """The code of a vertex that comes to the frontier, before any of its neighbours is known to be on the path."""
        return {self.source: TO_SOURCE, self.target: TO_TARGET}.get(vertex, FREE)


def finish(states: States) -> NDArray[np.bool_]:
    return states == FOUND


class EdgePaths:
    """Edges of the grid that form one path from the source to the target; value 1 for an edge on the path."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.edges = grid, grid.edges
        self.start = int(sum(grid.first_code(vertex) << BITS * vertex for vertex in range(grid.width)))

    def step(self, states: States, values: States, position: int) -> States:
        """[S, 1] and [1, 2] -> [S, 2]."""
        here, there = self.edges[position]
        column, width = here % self.grid.width, self.grid.width
        without = taken = states[:, 0]
        if there == here + width:
            next_code = self.grid.first_code(there)
            taken, without = _moved_down(taken, column, next_code, width), _left_behind(without, column, next_code)
        else:
            taken = _joined(taken, column, column + 1, width)
            if here // width == self.grid.height - 1:  # nothing else touches the left vertex
                taken, without = (_left_behind(part, column, FREE) for part in (taken, without))
        done = states[:, 0] == FOUND
        return np.stack([np.where(done, FOUND, without), np.where(done, DEAD, taken)], 1)


class CellPaths:
    """Cells of the grid that form one path without chords: cells of the path touch only if one follows the other.

    Value 1 for a cell on the path. The set of cells then tells their order.
    """

    start = 0

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def step(self, states: States, values: States, position: int) -> States:
        """[S, 1] and [1, 2] -> [S, 2]."""
        column, end = position % self.grid.width, self.grid.first_code(position)
        state = states[:, 0]
        above = _code(state, column)
        without = np.where((above > CLOSED) | (end != FREE), DEAD, _with_code(state, column, FREE))
        taken = self._taken(state, column, above, end)
        done = state == FOUND
        without = np.where(done, FOUND if end == FREE else DEAD, without)
        return np.stack([without, np.where(done, DEAD, taken)], 1)

    def _taken(self, state: States, column: int, above: States, end: int) -> States:
        """The cell joins every cell of the path that it touches: the one above, and the one on the left."""
        width = self.grid.width
        before = _code(state, column - 1) if column else np.zeros_like(state)
        dead = (above == CLOSED) | (above == ALONE) | (before == CLOSED)
        fresh = _with_code(state, column, end or ALONE)
        only_above = state if end == FREE else _attached(_with_code(state, column, CLOSED), above, column, end, width)
        only_left = _next_to_left(state, column, before, end, width)
        both = _joined(state, column - 1, column, width) if column and end == FREE else np.full_like(state, DEAD)
        after_alone = _with_code(_with_code(state, column, CLOSED), column - 1, above) if column else state
        if end == FREE:
            both = np.where(before == ALONE, after_alone, both)
        taken = np.where(above != FREE, np.where(before != FREE, both, only_above), only_left)
        taken = np.where((above == FREE) & (before == FREE), fresh, taken)
        return np.where(dead, DEAD, taken)


def _next_to_left(state: States, column: int, before: States, end: int, width: int) -> States:
    """A cell that touches only the one on its left."""
    if column == 0:
        return state
    if end != FREE:
        closed = _with_code(_with_code(state, column - 1, CLOSED), column, CLOSED)
        goes_on = _with_code(_with_code(state, column - 1, end), column, CLOSED)
        return np.where(before == ALONE, goes_on, _attached(closed, before, column - 1, end, width))
    pair = _with_code(_with_code(state, column - 1, LEFT_END), column, RIGHT_END)
    moved = _with_code(_with_code(state, column - 1, CLOSED), column, before)
    return np.where(before == ALONE, pair, moved)


def _code(state: States, column: int) -> States:
    return state >> BITS * column & 7


def _with_code(state: States, column: int, code: States | int) -> States:
    """The state with another code in a column; DEAD and FOUND are not kept: callers put them back."""
    return state & ~(np.int64(7) << BITS * column) | np.asarray(code, np.int64) << BITS * column


def _left_behind(state: States, column: int, next_code: int) -> States:
    """The vertex of a column leaves the frontier, and the one below takes its place."""
    open_end = _code(state, column) > CLOSED
    after = np.where(open_end, DEAD, _with_code(state, column, next_code))
    return np.where((state == DEAD) | (state == FOUND), state, after)


def _moved_down(state: States, column: int, next_code: int, width: int) -> States:
    """The path goes from the vertex of a column to the one below, which takes its place."""
    code = _code(state, column)
    after = state
    if next_code != FREE:
        after = _attached(_with_code(state, column, CLOSED), code, column, next_code, width)
    return np.where(code <= CLOSED, DEAD, after)


def _joined(state: States, first: int, second: int, width: int) -> States:
    """An edge between the vertices of two columns next to each other, of which both can take one."""
    x, y = _code(state, first), _code(state, second)
    one_end = np.where(x == FREE, _with_code(_with_code(state, first, y), second, CLOSED), 0)
    other_end = np.where(y == FREE, _with_code(_with_code(state, second, x), first, CLOSED), 0)
    pair = _with_code(_with_code(state, first, LEFT_END), second, RIGHT_END)
    closed = _with_code(_with_code(state, first, CLOSED), second, CLOSED)
    both = _merged(closed, x, y, (first, second), width)
    after = np.where(x == FREE, np.where(y == FREE, pair, one_end), np.where(y == FREE, other_end, both))
    return np.where((x == CLOSED) | (y == CLOSED), DEAD, after)


def _merged(state: States, x: States, y: States, columns: tuple[int, int], width: int) -> States:
    """Two pieces become one, by their open ends of codes x and y in two columns, which are closed already."""
    first, second = columns
    after = np.where((x == LEFT_END) & (y == RIGHT_END), DEAD, state)  # a cycle
    after = np.where((x == LEFT_END) & (y == LEFT_END), _set_mate(state, second, y, LEFT_END, width), after)
    after = np.where((x == RIGHT_END) & (y == RIGHT_END), _set_mate(state, first, x, RIGHT_END, width), after)
    x_fixed, y_fixed = x >= TO_SOURCE, y >= TO_SOURCE
    after = np.where(x_fixed & ~y_fixed, _set_mate(state, second, y, x, width), after)
    after = np.where(y_fixed & ~x_fixed, _set_mate(state, first, x, y, width), after)
    return np.where(x_fixed & y_fixed, _complete(state, width), after)


def _attached(state: States, code: States, column: int, end: int, width: int) -> States:
    """A piece whose open end had a code, in a column that is closed by now, gets the source or the target as an end."""
    return np.where(code >= TO_SOURCE, _complete(state, width), _set_mate(state, column, code, end, width))


def _complete(state: States, width: int) -> States:
    """FOUND where nothing is open, DEAD elsewhere."""
    is_open = np.zeros(state.shape, bool)
    for column in range(width):
        is_open |= _code(state, column) > CLOSED
    return np.where(is_open, DEAD, FOUND)


def _set_mate(state: States, column: int, code: States, new_code: States | int, width: int) -> States:
    """The state with a new code at the other end of the piece whose end in a column had a code."""
    after = state.copy()
    for end, columns in ((LEFT_END, range(column + 1, width)), (RIGHT_END, range(column - 1, -1, -1))):
        other = LEFT_END + RIGHT_END - end
        depth = (code == end).astype(np.int64)
        for place in columns:
            at = _code(state, place)
            depth += np.where(depth > 0, (at == end).astype(np.int64) - (at == other), 0)
            found = (depth == 0) & (code == end) & (at == other)
            after = np.where(found & (after == state), _with_code(state, place, new_code), after)
    return after
