"""Pieces of paths through a graph that is read vertex by vertex or edge by edge: the frontier method.

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

from dataclasses import dataclass
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
PLACES = np.arange(MAX_WIDTH + 3, dtype=np.int8)[:, None]
SHIFTS = BITS * np.arange(MAX_WIDTH + 3)[:, None]


def unpacked(states: States, places: int) -> Codes:
    return ((states >> SHIFTS[:places]) & 7).astype(np.int8)


def with_place(codes: Codes, place: int, code: int) -> Codes:
    """One place more, with one code in all states."""
    return np.concatenate([codes[:place], np.full((1, codes.shape[1]), code, np.int8), codes[place:]])


class _End(NamedTuple):
    """The code of a vertex in each state, and the place of the other end of its piece: its own where it is fresh."""

    code: Codes
    place: Codes


@dataclass
class Frontier:
    """The codes of many states at once, as a step changes them in place."""

    codes: Codes
    dead: Flags
    found: Flags

    @classmethod
    def of(cls, codes: Codes) -> Frontier:
        return cls(codes, *np.zeros((2, codes.shape[1]), bool))

    def second_half(self) -> Frontier:
        """The second half of the states, in the same memory."""
        half = self.codes.shape[1] // 2
        return Frontier(self.codes[:, half:], self.dead[half:], self.found[half:])

    def connect(self, first: int, second: int, fresh: int, *, only_if_present: bool = False) -> None:
        """The path goes from the vertex at one place to that at another one.

        fresh: the code of vertices of which no neighbour is known. only_if_present: where the second vertex
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

    def limit(self, place: int, left: Flags, between: Flags, right: Flags) -> None:
        """The path may go on from a vertex to some of its unread neighbours alone, from the left to the right.

        One of them is enough for an end; a vertex that stands alone needs those on both sides, as others touch each
        other. A vertex without any way on touches nothing: it is CLOSED, on the path or not.
        """
        code, stuck = self.codes[place], ~(left | between | right)
        self.dead |= (code > CLOSED) & stuck
        self.dead |= (code == ALONE) & ~(left & right)
        code[stuck & (code == FREE)] = CLOSED

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
        states = np.bitwise_or.reduce(np.left_shift(codes, SHIFTS[: len(codes)], dtype=np.int64), axis=0)
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
    code, n_places = codes[place], len(codes)
    opens = np.where(code == LEFT_END, depths[place] - 1, NO_DEPTH)
    closes = np.where(code == RIGHT_END, depths[place] + 1, NO_DEPTH)
    after = depths[place + 1 :] == opens
    before = (depths[:place] == closes) & (codes[:place] == LEFT_END)
    # The nearest of several places: that with the largest number of those that count towards this one.
    nearest_after = n_places - (after.view(np.int8) * PLACES[n_places - place - 1 : 0 : -1]).max(0, initial=0)
    nearest_before = (before.view(np.int8) * PLACES[1 : place + 1]).max(0, initial=0) - 1
    mates: Codes = np.where(code == LEFT_END, nearest_after, nearest_before)
    return mates
