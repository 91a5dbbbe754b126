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
PLACES = np.arange(MAX_WIDTH + 3, dtype=np.int8)[:, None]
SHIFTS = BITS * np.arange(MAX_WIDTH + 3)[:, None]


def unpacked(states: States, places: int) -> Codes:
    return ((states >> SHIFTS[:places]) & 7).astype(np.int8)


def with_place(codes: Codes, place: int, code: int) -> Codes:
    """One place more, with one code in all states."""
    return np.concatenate([codes[:place], np.full((1, codes.shape[1]), code, np.int8), codes[place:]])


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

    def connect(self, first: int, second: int, *, only_if_present: bool = False) -> None:
        """The path goes from the vertex at one place to that at another one, and joins their pieces.

        A piece that ends in the source or in the target ends on the frontier where the other one does.
        only_if_present: where the second vertex is not on the path, nothing happens.
        """
        x, y = self.codes[first], self.codes[second]
        goes = y != FREE if only_if_present else np.ones(len(y), bool)
        self.dead |= goes & ((x == CLOSED) | (y == CLOSED))
        at = np.flatnonzero(goes & ~self.dead)
        codes = self.codes.take(at, 1)
        x, y, depths = codes[first], codes[second], bracket_depths(codes)
        ends = [end_of(codes, depths, place) for place in (first, second)]
        self.dead[at] |= ends[0] == second  # a cycle
        fixed_x, fixed_y = x >= TO_SOURCE, y >= TO_SOURCE
        self.found[at] |= fixed_x & fixed_y
        self.codes[first, at] = self.codes[second, at] = CLOSED
        x_is_left = ends[0] < ends[1]
        x_code, y_code = np.where(x_is_left, LEFT_END, RIGHT_END), np.where(x_is_left, RIGHT_END, LEFT_END)
        self.codes[ends[0], at] = np.where(fixed_x, CLOSED, np.where(fixed_y, y, x_code))
        self.codes[ends[1], at] = np.where(fixed_y, CLOSED, np.where(fixed_x, x, y_code))

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
        return self._packed(self.codes[[place for place in range(len(self.codes)) if place not in places]])

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


def end_of(codes: Codes, depths: Codes, place: int) -> Codes:
    """The place of the other end of the piece that ends at a place [S]; the place itself for vertices without one.

    >>> codes = np.array([[LEFT_END], [LEFT_END], [RIGHT_END], [FREE], [RIGHT_END]], np.int8)
    >>> [int(end_of(codes, bracket_depths(codes), place)[0]) for place in range(5)]
    [4, 2, 1, 3, 0]
    """
    code, n_places = codes[place], len(codes)
    opens, closes = code == LEFT_END, code == RIGHT_END
    after = depths[place + 1 :] == depths[place] - 1
    before = (depths[:place] == depths[place] + 1) & (codes[:place] == LEFT_END)
    # The nearest of several places: that with the largest number of those that count towards this one.
    nearest_after = n_places - (after.view(np.int8) * PLACES[n_places - place - 1 : 0 : -1]).max(0, initial=0)
    nearest_before = (before.view(np.int8) * PLACES[1 : place + 1]).max(0, initial=0) - 1
    ends: Codes = np.where(opens, nearest_after, np.where(closes, nearest_before, np.int8(place)))
    return ends
