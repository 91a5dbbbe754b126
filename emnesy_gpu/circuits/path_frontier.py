"""Pieces of paths through a graph that is read vertex by vertex or edge by edge: the frontier method.

A state holds one code for every vertex on the frontier, where read and unread vertices touch: what is asked of it.

    FREE        it is not on the path (of edges: not yet)
    CLOSED      it is on the path, and all its neighbours on the path are known; or it cannot be on the path any more
    ALONE       it is on the path, and none of its two neighbours is known (cells alone)
    LEFT_END, RIGHT_END     one neighbour is missing; the other end of its piece of the path is on the frontier, to the
                right or to the left: pieces nest like brackets, as they cannot cross
    TO_SOURCE, TO_TARGET    one neighbour is missing, and its piece ends in the source or in the target

When the pieces of the source and of the target meet, and no other one is open, the path is found: FOUND. (Knuth, "The
art of computer programming", volume 4A, 2011, section 7.1.4, exercise 225: Simpath.)

A symbol changes a few neighbouring places, and at most one more, the other end of a piece. What it does to the first is
computed once for all codes that they can have, a ``Window``, and then looked up for all states at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.int64]
Codes = NDArray[np.int64]
"""[S], of one place."""
Flags = NDArray[np.bool_]

FREE, CLOSED, ALONE, LEFT_END, RIGHT_END, TO_SOURCE, TO_TARGET = range(7)
BITS = 3
MAX_WIDTH = 19
"""Columns whose codes fit in a state, with one place more and FOUND beside them."""
FOUND = np.int64(1) << 62
DEAD = np.int64(-1)
SHIFTS = BITS * np.arange(MAX_WIDTH + 1)[:, None]

NO_OTHER_END, MEET = 0, 1
"""Of what becomes of the other end of a piece, beside its new code; MEET: source and target are joined."""


def places(start: int, stop: int) -> int:
    """The lowest bits of the places start..stop-1 of a state.

    >>> oct(places(1, 3))
    '0o110'
    """
    return ((1 << BITS * stop) - (1 << BITS * start)) // 7


def joined(x: int, y: int) -> tuple[int, int, int] | None:
    """The codes of two vertices, from left to right, that follow each other on the path; None where they cannot.

    Third: the code that the other end of their piece gets, negative where it is on the left of them, or NO_OTHER_END,
    or MEET. Nothing between them is open.
    """
    ends, single = {x, y}, (FREE, ALONE)
    if CLOSED in ends or (x, y) == (LEFT_END, RIGHT_END):  # the last two would be a cycle
        return None
    if x in single:
        return (LEFT_END, RIGHT_END, NO_OTHER_END) if y in single else (y, CLOSED, NO_OTHER_END)
    if y in single:
        return CLOSED, x, NO_OTHER_END
    other_end = NO_OTHER_END
    if min(x, y) >= TO_SOURCE:
        other_end = MEET
    elif LEFT_END in ends and RIGHT_END not in ends:
        other_end = max(x, y)
    elif RIGHT_END in ends and LEFT_END not in ends:
        other_end = -max(x, y)
    return CLOSED, CLOSED, other_end


ALL_CODES = range(1 << BITS)
JOINED = np.array([[joined(x, y) or (x, y, NO_OTHER_END) for y in ALL_CODES] for x in ALL_CODES])
CAN_JOIN = np.array([[joined(x, y) is not None for y in ALL_CODES] for x in ALL_CODES])


class Outcomes(NamedTuple):
    """What a symbol does to neighbouring places, for its values 0 and 1 and all codes of the places [2 * 8^places].

    change: the bits of their codes that change. dead: the value is forbidden. other_end: see ``joined``.
    """

    n_places: int
    change: States
    dead: Flags
    other_end: NDArray[np.int8]


class Window:
    """Neighbouring places with all codes that they can have: a list of codes [8^places], from left to right."""

    def __init__(self, n_places: int) -> None:
        word = np.arange(1 << BITS * n_places)
        self.codes: list[Codes] = [word >> BITS * place & 7 for place in range(n_places)]
        self.dead = np.zeros(len(word), np.bool_)
        self.other_end = np.zeros(len(word), np.int8)

    def connect(self, first: int, second: int, only_if_present: int | None = None) -> None:
        """The path goes from the vertex at one place to that at another one on its right, and joins their pieces.

        only_if_present: where the vertex at this place is not on the path, nothing happens.
        """
        pair = self.codes[first], self.codes[second]
        where = np.True_ if only_if_present is None else self.codes[only_if_present] != FREE
        *codes, other_end = np.moveaxis(JOINED[pair], -1, 0)
        self.dead |= where & ~CAN_JOIN[pair]
        self.codes[first], self.codes[second] = (
            np.where(where, new, old) for new, old in zip(codes, pair, strict=True)
        )
        self.other_end = np.where(where & (other_end != NO_OTHER_END), other_end, self.other_end).astype(np.int8)

    def leave(self, place: int) -> None:
        """A vertex leaves the frontier, and must not miss a neighbour; its place stays and is FREE."""
        self.dead |= self.codes[place] > CLOSED
        self.codes[place] = np.full_like(self.codes[place], FREE)


def outcomes(without: Window, taken: Window) -> Outcomes:
    """Of the two values of a symbol, off the path and on it."""
    n_places = len(without.codes)
    word = np.arange(1 << BITS * n_places)
    both = (without, taken)
    change = [word ^ sum(codes << BITS * place for place, codes in enumerate(window.codes)) for window in both]
    dead = np.concatenate([window.dead for window in both])
    other_end = np.concatenate([window.other_end for window in both])
    return Outcomes(n_places, np.concatenate(change), dead, np.where(dead, 0, other_end).astype(np.int8))


@dataclass
class Frontier:
    """States after a symbol [2 S], those of its value 0 first; found: where source and target are joined."""

    states: States
    dead: Flags
    found: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    @classmethod
    def after(cls, states: States, first: int, outcome: Outcomes, width: int) -> Frontier:
        """Of states [S] before a symbol that changes some places, from the first one on. width: of the frontier."""
        size = 1 << BITS * outcome.n_places
        word = states >> BITS * first & size - 1
        word = np.concatenate([word, word + size])
        change = outcome.change.take(word)
        change <<= BITS * first
        change ^= np.concatenate([states, states])
        frontier = cls(change, outcome.dead.take(word))
        other_end = outcome.other_end.take(word)
        if other_end.any():
            stop = first + outcome.n_places
            frontier.found = (other_end == MEET).nonzero()[0]
            frontier._rename((other_end > MEET).nonzero()[0], RIGHT_END, other_end, SHIFTS[first:width])
            frontier._rename((other_end < 0).nonzero()[0], LEFT_END, -other_end, SHIFTS[:stop][::-1])
        return frontier

    def _rename(self, at: States, end: int, new: NDArray[np.int8], shifts: States) -> None:
        """Give the other end of a piece its new code: the nearest such end that is not of a piece on the way.

        shifts: of the places on the way, from the near ones to the far ones.
        """
        if not len(at):
            return
        codes = self.states[at] >> shifts & 7
        depths = (codes == end).view(np.int8) - (codes == LEFT_END + RIGHT_END - end).view(np.int8)
        nearest = (np.add.accumulate(depths, 0, out=depths) == 1).argmax(0)
        self.states[at] ^= (new[at] ^ end).astype(np.int64) << shifts[nearest, 0]

    def successors(self, before: States, *, may_end: bool) -> States:
        """[S, 2], of the states before the symbol [S]: once the path is found nothing more may be on it.

        may_end: the symbol may be off the path.
        """
        if len(self.found):
            open_codes = self.states[self.found] & (places(0, MAX_WIDTH + 1) * 0b110)
            self.states[self.found] = np.where(open_codes == 0, FOUND, DEAD)
        self.states[self.dead] = DEAD
        after = self.states.reshape(2, -1)
        found = (before == FOUND).nonzero()[0]
        if len(found):
            after[0, found], after[1, found] = FOUND, DEAD
        if not may_end:
            after[0] = DEAD
        return after.T
