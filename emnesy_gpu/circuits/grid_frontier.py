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

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.int64]
Codes = NDArray[np.int64]
"""[S, places]: the codes along the frontier, from left to right."""

FREE, CLOSED, ALONE, LEFT_END, RIGHT_END, TO_SOURCE, TO_TARGET = range(7)
BITS = 3
MAX_WIDTH = 19
"""Columns whose codes fit in a state, with one place more and FOUND beside them."""
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
        if there == here + width:  # the vertex below comes to the right of the one that it replaces
            codes = np.insert(codes, column + 1, self.grid.end(there), axis=1)
            frontiers = [Frontier(codes), Frontier(codes)]
            frontiers[1].connect(column, column + 1, FREE)
            after = [frontier.left_behind(column) for frontier in frontiers]
        else:
            frontiers = [Frontier(codes), Frontier(codes)]
            frontiers[1].connect(column, column + 1, FREE)
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
            codes = np.concatenate([np.zeros((len(codes), 1), np.int64), codes[:, :width]], 1)
        taken = Frontier(np.insert(codes, column, end or ALONE, axis=1))
        for place in self._touched(column):
            taken.connect(column, place, ALONE, only_if_present=True)
        without = Frontier(np.insert(codes, column, FREE, axis=1))
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
    return states[:, None] >> BITS * np.arange(places) & 7


class Frontier:
    """The codes of many states at once, as a step changes them."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes.copy()
        self.dead = np.zeros(len(codes), bool)
        self.found = np.zeros(len(codes), bool)

    def connect(self, first: int, second: int, fresh: int, *, only_if_present: bool = False) -> None:
        """The path goes from the vertex at one place to that at another one.

        fresh: the code of vertices that none of their neighbours is known of. only_if_present: where the second vertex
        is not on the path, nothing happens.
        """
        x, y = self.codes[:, first].copy(), self.codes[:, second].copy()
        present = y != FREE if only_if_present else np.ones(len(y), bool)
        self.dead |= present & ((x == CLOSED) | (y == CLOSED))
        rows = np.flatnonzero(present & ~self.dead)
        mates = mates_of(self.codes[rows])
        ends = [self._end(rows, place, mates, fresh) for place in (first, second)]
        for place, (code, _) in zip((first, second), ends, strict=True):
            self.codes[rows, place] = np.where(code == fresh, self.codes[rows, place], CLOSED)
        self._make_piece(rows, ends[0], ends[1], mates[:, first] == second)

    def _end(self, rows: States, place: int, mates: Codes, fresh: int) -> tuple[Codes, Codes]:
        """The code of a vertex, and the place of the other end of its piece: its own where it is fresh."""
        code = self.codes[rows, place]
        return code, np.where(code == fresh, place, mates[:, place])

    def _make_piece(
        self, rows: States, a: tuple[Codes, Codes], b: tuple[Codes, Codes], same: NDArray[np.bool_]
    ) -> None:
        """Two pieces become one: its ends are their other ends, on the frontier or the source or the target."""
        (code_a, place_a), (code_b, place_b) = a, b
        fixed_a, fixed_b = code_a >= TO_SOURCE, code_b >= TO_SOURCE
        self.dead[rows[same & (code_a != code_b) & ~fixed_a & ~fixed_b]] = True  # a cycle
        self.found[rows[fixed_a & fixed_b]] = True
        for fixed, free, code, place in ((fixed_a, fixed_b, code_a, place_b), (fixed_b, fixed_a, code_b, place_a)):
            one = fixed & ~free
            self.codes[rows[one], place[one]] = code[one]
        both = ~fixed_a & ~fixed_b
        low, high = np.minimum(place_a, place_b)[both], np.maximum(place_a, place_b)[both]
        self.codes[rows[both], low], self.codes[rows[both], high] = LEFT_END, RIGHT_END

    def left_behind(self, *places: int) -> States:
        """Vertices leave the frontier, and must not miss a neighbour."""
        for place in places:
            self.dead |= self.codes[:, place] > CLOSED
        return self._packed(np.delete(self.codes, places, axis=1))

    def forgotten(self, place: int) -> States:
        """A vertex leaves the frontier, and its place stays."""
        self.dead |= self.codes[:, place] > CLOSED
        self.codes[:, place] = FREE
        return self.states()

    def states(self) -> States:
        return self._packed(self.codes)

    def _packed(self, codes: Codes) -> States:
        still_open = (self.codes > CLOSED).any(1)
        states = (codes << BITS * np.arange(codes.shape[1])).sum(1)
        states = np.where(self.found, FOUND, states)
        return np.where(self.dead | (self.found & still_open), DEAD, states)


def mates_of(codes: Codes) -> Codes:
    """The place of the other end of each piece [S, places], -1 for vertices that are no ends of one on the frontier.

    >>> mates_of(np.array([[LEFT_END, LEFT_END, RIGHT_END, FREE, RIGHT_END]])).tolist()
    [[4, 2, 1, -1, 0]]
    """
    mates = np.full(codes.shape, -1)
    stack, depth = np.zeros(codes.shape, np.int64), np.zeros(len(codes), np.int64)
    for place in range(codes.shape[1]):
        opens = np.flatnonzero(codes[:, place] == LEFT_END)
        stack[opens, depth[opens]] = place
        depth[opens] += 1
        closes = np.flatnonzero(codes[:, place] == RIGHT_END)
        depth[closes] -= 1
        mate = stack[closes, depth[closes]]
        mates[closes, place], mates[closes, mate] = mate, place
    return mates
