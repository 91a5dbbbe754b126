"""Small automata over symbols in an order: one for each constraint, and their products.

The state of an automaton is True or False once it is decided, which it is after the last symbol that it reads. Other
states are tuples, which no bool equals.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

Places = Mapping[int, int]
"""The position of each symbol, by its number."""

OPEN = ()
"""The state of an automaton that has not read anything that matters."""


class OrderError(ValueError):
    """An automaton cannot read its symbols in this order."""


class Reader(NamedTuple):
    """An automaton: the positions that it reads, ascending; its first state; (state, value, position) -> next state.

    It is asked for its own positions and states that are not decided alone; a whole formula for all.
    """

    positions: tuple[int, ...]
    start: Hashable
    step: Callable[[Any, int, int], Hashable]


def one_of(position: int, values: frozenset[int], cardinality: int) -> Reader:
    if not values or len(values) == cardinality:
        return Reader((position,), bool(values), lambda state, value, at: state)
    return Reader((position,), OPEN, lambda state, value, at: state if isinstance(state, bool) else value in values)


def sum_within(terms: Sequence[tuple[int, int, int]], low: int | None, high: int | None) -> Reader:
    """low <= sum of weight * value <= high. terms: (position, weight, cardinality), ascending. States: sums so far."""
    lowest = [min(0, weight * (k - 1)) for _, weight, k in terms]
    highest = [max(0, weight * (k - 1)) for _, weight, k in terms]
    rest = list(zip(_after(lowest), _after(highest), strict=True))
    weight_of = {position: (weight, *rest[index]) for index, (position, weight, _) in enumerate(terms)}
    least = float("-inf") if low is None else low
    most = float("inf") if high is None else high

    def decided(total: int, below: int, above: int) -> Hashable:
        if total + above < least or total + below > most:
            return False
        return True if total + below >= least and total + above <= most else (total,)

    def step(state: tuple[int], value: int, position: int) -> Hashable:
        weight, below, above = weight_of[position]
        return decided(state[0] + weight * value, below, above)

    return Reader(tuple(weight_of), decided(0, sum(lowest), sum(highest)), step)


def _after(values: Sequence[int]) -> list[int]:
    """The sum of all later values, for each.

    >>> _after([1, 2, 3])
    [5, 3, 0]
    """
    return [sum(values) - total for total in accumulate(values)]


def different_values(terms: Sequence[tuple[int, Sequence[int]]]) -> Reader:
    """All different. terms: (position, what each value stands for), ascending. States: the set of what was read."""
    images = dict(terms)
    last = terms[-1][0]
    possible = {value for image in images.values() for value in image}
    bit = {value: 1 << index for index, value in enumerate(sorted(possible))}
    bits = {position: [bit[value] for value in image] for position, image in images.items()}
    if len(terms) > len(possible) or len(images) < len(terms):
        return Reader(tuple(images), False, lambda state, value, position: state)

    def step(state: tuple[int], value: int, position: int) -> Hashable:
        mine = bits[position][value]
        if state[0] & mine:
            return False
        return True if position == last else (state[0] | mine,)

    return Reader(tuple(images), (0,), step)


def listed(positions: Sequence[int], rows: Sequence[tuple[int, ...]]) -> Reader:
    """One of some rows. positions: ascending, one for each column. States: the rows that are left, as a tree."""
    children: list[dict[int, int]] = [{}]
    for row in rows:
        node = 0
        for value in row:
            node = children[node].setdefault(value, len(children))
            if node == len(children):
                children.append({})
    last = positions[-1]

    def step(state: tuple[int], value: int, position: int) -> Hashable:
        node = children[state[0]].get(value)
        if node is None:
            return False
        return True if position == last else (node,)

    return Reader(tuple(positions), (0,) if rows else False, step)


class Language(NamedTuple):
    """step(state, value) -> the next state or None; the first state; whether a last state is accepted."""

    step: Callable[[Any, int], Any]
    start: Hashable
    accepts: Callable[[Any], Any]


def language(positions: Sequence[int], rule: Language) -> Reader:
    """An automaton of the user that reads positions in this order. Raises OrderError unless they ascend."""
    if any(a >= b for a, b in pairwise(positions)):
        raise OrderError("an automaton must read its symbols in their order")
    last = positions[-1]

    def step(state: tuple[Any], value: int, position: int) -> Hashable:
        after = rule.step(state[0], value)
        if after is None:
            return False
        return bool(rule.accepts(after)) if position == last else (after,)

    return Reader(tuple(positions), (rule.start,), step)


def counting(parts: Sequence[Reader], decided: Callable[[int, int], bool | None], modulus: int | None = None) -> Reader:
    """A product of automata of which it matters how many hold.

    decided(n_true, n_open): True, False, or None as long as it depends on those that are open. States: (n_true, n_open,
    states of those that have begun and are open). Those that have not begun are not listed: the position tells.
    """
    at: dict[int, list[int]] = {}
    for index, part in enumerate(parts):
        if not isinstance(part.start, bool):
            for position in part.positions:
                at.setdefault(position, []).append(index)
    first = [part.positions[0] if part.positions else -1 for part in parts]
    positions = tuple(sorted({position for part in parts for position in part.positions}))
    n_open = sum(not isinstance(part.start, bool) for part in parts)

    def result(n_true: int, n_open: int, states: tuple[tuple[int, Hashable], ...]) -> Hashable:
        n_true = n_true if modulus is None else n_true % modulus
        truth = decided(n_true, n_open)
        return (n_true, n_open, states) if truth is None else truth

    def step(state: Any, value: int, position: int) -> Hashable:
        if isinstance(state, bool) or position not in at:
            return state
        n_true, n_open, begun = state
        states = dict(begun)
        for index in at[position]:
            part = parts[index]
            before = part.start if first[index] == position else states.pop(index, True)
            if before is True:  # decided early
                continue
            after = part.step(before, value, position)
            if isinstance(after, bool):
                n_open, n_true = n_open - 1, n_true + after
            else:
                states[index] = after
        return result(n_true, n_open, tuple(sorted(states.items(), key=_index)))

    return Reader(positions, result(sum(part.start is True for part in parts), n_open, ()), step)


def _index(item: tuple[int, Hashable]) -> int:
    return item[0]


def whole(reader: Reader) -> Reader:
    """The automaton asked for all positions and states, also those that do not matter to it."""
    own = frozenset(reader.positions)

    def step(state: Hashable, value: int, position: int) -> Hashable:
        return state if isinstance(state, bool) or position not in own else reader.step(state, value, position)

    return Reader(reader.positions, reader.start, step)
