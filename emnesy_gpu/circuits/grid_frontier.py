"""Paths through a grid as programs that read one cell or one edge after the other: the frontier method.

A state holds one code for every vertex on the frontier, where read and unread vertices touch: what is asked of it.

    FREE        it is not on the path (of edges: not yet)
    CLOSED      it is on the path, and all its neighbours on the path are known
    ALONE       it is on the path, and none of its two neighbours is known (cells alone)
    LEFT_END, RIGHT_END     one neighbour is missing; the other end of its piece of the path is on the frontier, to the
                right or to the left: pieces nest like brackets, as they cannot cross
    TO_SOURCE, TO_TARGET    one neighbour is missing, and its piece ends in the source or in the target

When the pieces of the source and of the target meet, and no other one is open, the path is found: FOUND. (Knuth, "The
art of computer programming", volume 4A, 2011, section 7.1.4, exercise 225: Simpath.)
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.int64]
Codes = NDArray[np.int8]
"""[places, S]: the codes along the frontier, from left to right; small, as a step reads them many times."""
Flags = NDArray[np.bool_]

FREE, CLOSED, ALONE, LEFT_END, RIGHT_END, TO_SOURCE, TO_TARGET = range(7)
BITS = 3
MAX_WIDTH = 19
"""Columns whose codes fit in a state, with one place more and FOUND beside them."""
FOUND = np.int64(1) << 62
DEAD = np.int64(-1)
NO_DEPTH = np.int8(-9)
"""Less than all depths of brackets less 1."""


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


def finish(states: States) -> NDArray[np.bool_]:
    return states == FOUND


class EdgePaths:
    """Edges of the grid that form one path from the source to the target; value 1 for an edge on the path.

    The frontier has a place for each column, for the lowest vertex that an edge has touched.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid, self.edges = grid, grid.edges
        self.start = int(sum(grid.end(vertex) << BITS * vertex for vertex in range(grid.width)))

    def step(self, states: States, values: States, position: int) -> States:
        """[S, 1] and [1, 2] -> [S, 2]."""
        here, there = self.edges[position]
        column, width = here % self.grid.width, self.grid.width
        codes = unpacked(states[:, 0], width)
        downwards = there == here + width
        if downwards:  # the vertex below comes to the right of the one that it replaces
            codes = np.insert(codes, column + 1, self.grid.end(there), axis=0)
        frontiers = [Frontier(codes), Frontier(codes)]
        frontiers[1].connect(column, column + 1, FREE)
        if downwards:
            after = [frontier.left_behind(column) for frontier in frontiers]
        else:
            last_row = here // width == self.grid.height - 1  # nothing else touches the left vertex
            after = [frontier.forgotten(column) if last_row else frontier.states() for frontier in frontiers]
        return _with_found(states, *after, may_end=True)


class CellPaths:
    """Cells of the grid that form one path without chords: cells of the path touch only if one follows the other.

    Value 1 for a cell on the path. The set of cells then tells their order. With diagonals a cell touches eight others,
    and no two pieces cross: four cells of a square would touch each other. Before column c the frontier has c cells of
    the row, then those of the row above from column c - 1 on.
    """

    start = 0

    def __init__(self, grid: Grid, diagonals: bool) -> None:
        self.grid, self.diagonals = grid, diagonals

    def step(self, states: States, values: States, position: int) -> States:
        """[S, 1] and [1, 2] -> [S, 2]."""
        column, end, width = position % self.grid.width, self.grid.end(position), self.grid.width
        codes = unpacked(states[:, 0], width + 1)
        if column == 0 and position:  # the row above moves by one place
            codes = np.insert(codes[:width], 0, FREE, axis=0)
        taken = Frontier(np.insert(codes, column, end or ALONE, axis=0))
        for place in self._touched(column):
            taken.connect(column, place, ALONE, only_if_present=True)
        without = Frontier(np.insert(codes, column, FREE, axis=0))
        last = [column + 1, width + 1] if column == width - 1 else [column + 1]
        after = [without.left_behind(*last), taken.left_behind(*last)]
        return _with_found(states, *after, may_end=end == FREE)

    def _touched(self, column: int) -> list[int]:
        """Places of the cells that a new one at place column touches: on its left and above it."""
        left = [column - 1] if column else []
        if not self.diagonals:
            return [*left, column + 2]
        above_left = [column + 1] if column else []
        return [*left, *above_left, column + 2, *([column + 3] if column < self.grid.width - 1 else [])]


def _with_found(states: States, without: States, taken: States, *, may_end: bool) -> States:
    """Once the path is found nothing more may be on it. may_end: the symbol may be off the path."""
    found = states[:, 0] == FOUND
    without = without if may_end else np.full_like(without, DEAD)
    return np.stack([np.where(found, FOUND if may_end else DEAD, without), np.where(found, DEAD, taken)], 1)


def unpacked(states: States, places: int) -> Codes:
    return np.stack([(states >> BITS * place & 7).astype(np.int8) for place in range(places)])


class _End(NamedTuple):
    """The code of a vertex in each state, and the place of the other end of its piece: its own where it is fresh."""

    code: Codes
    place: Codes


class Frontier:
    """The codes of many states at once, as a step changes them."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes.copy()
        self.dead = np.zeros(codes.shape[1], bool)
        self.found = np.zeros(codes.shape[1], bool)

    def connect(self, first: int, second: int, fresh: int, *, only_if_present: bool = False) -> None:
        """The path goes from the vertex at one place to that at another one.

        fresh: the code of vertices that none of their neighbours is known of. only_if_present: where the second vertex
        is not on the path, nothing happens.
        """
        x, y = self.codes[first].copy(), self.codes[second].copy()
        goes = y != FREE if only_if_present else np.ones(len(y), bool)
        self.dead |= goes & ((x == CLOSED) | (y == CLOSED))
        goes &= ~self.dead
        depths = bracket_depths(self.codes)
        mates = [mate_of(self.codes, depths, place) for place in (first, second)]
        ends = []
        for place, code, mate in zip((first, second), (x, y), mates, strict=True):
            is_fresh = code == fresh
            ends.append(_End(code, np.where(is_fresh, np.int8(place), mate)))
            self.codes[place, goes & ~is_fresh] = CLOSED
        self._make_piece(goes, ends[0], ends[1], mates[0] == second)

    def _make_piece(self, goes: Flags, a: _End, b: _End, same: Flags) -> None:
        """Two pieces become one: its ends are their other ends, on the frontier or the source or the target."""
        fixed_a, fixed_b = a.code >= TO_SOURCE, b.code >= TO_SOURCE
        both = goes & ~fixed_a & ~fixed_b
        self.dead |= both & same & (a.code != b.code)  # a cycle
        self.found |= goes & fixed_a & fixed_b
        for one, fixed, free in ((goes & fixed_a & ~fixed_b, a, b), (goes & fixed_b & ~fixed_a, b, a)):
            states = np.flatnonzero(one)
            self.codes[free.place[states], states] = fixed.code[states]
        states = np.flatnonzero(both)
        self.codes[np.minimum(a.place, b.place)[states], states] = LEFT_END
        self.codes[np.maximum(a.place, b.place)[states], states] = RIGHT_END

    def left_behind(self, *places: int) -> States:
        """Vertices leave the frontier, and must not miss a neighbour."""
        for place in places:
            self.dead |= self.codes[place] > CLOSED
        return self._packed(np.delete(self.codes, places, axis=0))

    def forgotten(self, place: int) -> States:
        """A vertex leaves the frontier, and its place stays."""
        self.dead |= self.codes[place] > CLOSED
        self.codes[place] = FREE
        return self.states()

    def states(self) -> States:
        return self._packed(self.codes)

    def _packed(self, codes: Codes) -> States:
        states = np.zeros(codes.shape[1], np.int64)
        for code in codes[::-1]:
            states <<= BITS
            states |= code
        found = np.flatnonzero(self.found)
        states[found] = np.where((self.codes[:, found] > CLOSED).any(0), DEAD, FOUND)
        states[self.dead] = DEAD
        return states


def bracket_depths(codes: Codes) -> Codes:
    """How many pieces are open after each place, seen from the left [places, S]."""
    depths: Codes = (codes == LEFT_END).view(np.int8) - (codes == RIGHT_END).view(np.int8)
    for before, here in pairwise(depths):  # faster than cumsum
        here += before
    return depths


def mate_of(codes: Codes, depths: Codes, place: int) -> Codes:
    """The place of the other end of the piece that ends at a place [S], -1 for vertices that are no ends of one.

    >>> codes = np.array([[LEFT_END], [LEFT_END], [RIGHT_END], [FREE], [RIGHT_END]], np.int8)
    >>> [int(mate_of(codes, bracket_depths(codes), place)[0]) for place in range(5)]
    [4, 2, 1, -1, 0]
    """
    mates = np.full(codes.shape[1], -1, np.int8)
    opens = np.where(codes[place] == LEFT_END, depths[place] - 1, NO_DEPTH)
    for other in reversed(range(place + 1, len(codes))):
        np.copyto(mates, other, where=depths[other] == opens)
    closes = np.where(codes[place] == RIGHT_END, depths[place] + 1, NO_DEPTH)
    for other in range(place):
        np.copyto(mates, other, where=(depths[other] == closes) & (codes[other] == LEFT_END))
    return mates
