"""The smallest deterministic tables with the same labels: equal states become one, useless states go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import DEAD

Table = NDArray[np.int64]
INTEGER_BITS = 63
"""Of an integer >= 0."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number near 2^64 / golden ratio: powers of it spread the entries of a row over 64 bits."""


class Merged(NamedTuple):
    """A table of merged states; state_of [S]: the merged state of each original one, DEAD for those that are gone."""

    successor: Table
    state_of: Table


def minimise_shared(successor: Table, kinds: Table) -> Merged:
    """For one table that serves every position; Moore's partition refinement, where only what may change is looked at.

    kinds [S]: states of different kinds are never merged, DEAD marks states that no sequence may end in. Goes: what
    cannot be reached from state 0, and what can never come to a state with a kind. State 0 stays state 0.
    """
    sources = _sources(successor)
    useful = _useful(sources, kinds >= 0)
    useful[0] = True
    table = np.where((successor >= 0) & useful[successor], successor, DEAD)
    classes = number_rows(np.where(useful, kinds, DEAD - 1)[:, None])
    sizes, n_classes = np.bincount(classes, minlength=len(table)), int(classes.max()) + 1
    touched = np.arange(len(table))
    while len(touched):
        changed = _split(table, classes, sizes, n_classes, touched)
        n_classes = int(classes[changed].max(initial=n_classes - 1)) + 1
        touched = sources.of(changed)
    return _from_start(renamed(table, classes)[representatives(classes)], classes)


class _Sources(NamedTuple):
    """The edges backwards: state[first[t] : first[t + 1]] are the states with an edge to t."""

    first: Table
    state: Table

    def of(self, targets: Table) -> Table:
        """The different states with an edge to one of different targets."""
        counts = self.first[targets + 1] - self.first[targets]
        shift = np.repeat(self.first[targets] - (np.cumsum(counts) - counts), counts)
        states = self.state[np.arange(len(shift)) + shift]
        if len(states) < len(self.first) // 8:
            return np.unique(states)
        found = np.zeros(len(self.first) - 1, np.bool_)
        found[states] = True
        return np.flatnonzero(found)


def _sources(successor: Table) -> _Sources:
    state, value = np.nonzero(successor >= 0)
    targets = successor[state, value]
    counts = np.bincount(targets, minlength=len(successor))
    return _Sources(np.append(0, np.cumsum(counts)), state[np.argsort(targets, kind="stable")])


def _useful(sources: _Sources, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The states from which a wanted one can be reached."""
    useful = wanted.copy()
    fresh = np.flatnonzero(wanted)
    while len(fresh):
        before = sources.of(fresh)
        fresh = before[~useful[before]]
        useful[fresh] = True
    return useful


def _split(table: Table, classes: Table, sizes: Table, n_classes: int, touched: Table) -> Table:
    """Split the classes of touched states, in place, by the classes of their successors.

    touched: the states whose successors have changed their class since the last call; all others in a class are alike,
    and keep its number. sizes [S]: of the classes, written too. Returns the states whose class has changed.
    """
    old = classes[touched]
    rows = np.where(table[touched] >= 0, classes[table[touched]], DEAD)
    numbers = number_rows(np.column_stack([old, rows]))
    of_group, counts = np.empty(numbers.max() + 1, np.int64), np.bincount(numbers)
    of_group[numbers] = old
    by_size = np.argsort(-counts)
    different, first, of_class = np.unique(of_group[by_size], return_index=True, return_inverse=True)
    # Where all states of a class are touched, its largest group keeps the number.
    whole = np.bincount(of_class, counts[by_size]) == sizes[different]
    fresh = np.ones(len(of_group), np.bool_)
    fresh[by_size[first[whole]]] = False
    names = np.where(fresh, n_classes + np.cumsum(fresh) - 1, of_group)
    np.subtract.at(sizes, of_group[fresh], counts[fresh])
    sizes[names[fresh]] = counts[fresh]
    classes[touched] = names[numbers]
    return touched[fresh[numbers]]


def _from_start(rows: Table, classes: Table) -> Merged:
    """Classes [C, K] of states in the order in which they are reached, breadth first, from that of state 0."""
    first = int(classes[0])
    place = np.full(len(rows), DEAD, np.int64)
    place[first] = 0
    found = [first]
    for current in found:  # grows while it is read
        for target in rows[current].tolist():
            if target >= 0 and place[target] < 0:
                place[target] = len(found)
                found.append(target)
    return Merged(renamed(rows[found], place), renamed(classes, place))


def minimise_layers(tables: Sequence[Table], kinds: Sequence[Table]) -> tuple[list[Table], list[Table]]:
    """For a table a position, backwards: two states are one where their kinds and rows of successors are equal.

    kinds: n + 1 arrays [S_i] for the states before each position and after the last one; states of different kinds are
    never merged, DEAD marks states that the rule forbids there. Returns the tables, and for each of the n + 1 sets of
    states the merged state of each original one, DEAD for those that are gone. Nothing is left of a rule that forbids
    everything.
    """
    last = np.flatnonzero(kinds[-1] >= 0)
    classes = [_spread(number_rows(kinds[-1][last, None]), last, len(kinds[-1]))]
    merged: list[Table] = []
    for table, kind in zip(reversed(tables), reversed(kinds[:-1]), strict=True):
        rows, stop = renamed(table, classes[-1]), len(merged[-1]) if merged else None
        is_alive = (rows >= 0) @ np.ones(rows.shape[1], np.bool_)  # faster than any(1) where rows are short
        is_seen = kind.any()
        alive = (is_alive & (kind >= 0) if is_seen else is_alive).nonzero()[0]
        if len(alive) < len(table):
            rows = rows.take(alive, 0)
        numbers, first = (
            grouped_rows(np.column_stack([kind.take(alive), rows])) if is_seen else grouped_rows(rows, stop)
        )
        merged.append(rows.take(first, 0))
        classes.append(_spread(numbers, alive, len(table)) if len(alive) < len(table) else numbers)
    return _forwards(merged[::-1], classes[::-1])


def _spread(numbers: Table, alive: Table, n_states: int) -> Table:
    """Numbers of the states that are alive, among all of them: DEAD for the others."""
    spread = np.full(n_states, DEAD, np.int64)
    spread[alive] = numbers
    return spread


def _forwards(merged: list[Table], classes: list[Table]) -> tuple[list[Table], list[Table]]:
    """Keep the classes that are reached from that of state 0, numbered in the order in which they are reached."""
    n_classes = [*map(len, merged), int(classes[-1].max(initial=DEAD)) + 1]
    reached, place = _reached(classes[0][:1], n_classes[0])
    tables, state_of = [], [place.take(classes[0])]
    for rows, numbers, n_after in zip(merged, classes[1:], n_classes[1:], strict=True):
        current = rows.take(reached, 0)
        reached, place = _reached(current.ravel(), n_after)
        tables.append(place.take(current))
        state_of.append(place.take(numbers))
    return tables, state_of


def _reached(found: Table, n_classes: int) -> tuple[Table, Table]:
    """The different classes of those found, in their order, and the place of each class there, DEAD for the others.

    >>> reached, place = _reached(np.array([4, DEAD, 1, 4]), 5)
    >>> reached.tolist(), place.tolist()
    ([4, 1], [-1, 1, -1, -1, 0, -1])
    """
    place = np.full(n_classes + 1, DEAD, np.int64)  # the last one for DEAD, the index -1
    found = found.compress(found >= 0)
    reached = found.compress(_is_first(found, n_classes))
    place[reached] = np.arange(len(reached))
    return reached, place


def renamed(numbers: Table, names: Table) -> Table:
    """names[numbers], and DEAD stays DEAD.

    >>> renamed(np.array([1, DEAD, 0]), np.array([7, 8])).tolist()
    [8, -1, 7]
    """
    return np.append(names, DEAD).take(numbers)  # DEAD is -1, the index of what was appended


def representatives(numbers: Table) -> Table:
    """The first state of each class."""
    alive = np.flatnonzero(numbers >= 0)
    first = alive[_is_first(numbers[alive], int(numbers.max(initial=DEAD)) + 1)]
    states = np.empty_like(first)
    states[numbers[first]] = first
    return states


def _is_first(numbers: Table, stop: int) -> NDArray[np.bool_]:
    """Whether a number in 0..stop-1 is the first of its kind, bool [len(numbers)].

    >>> _is_first(np.array([4, 1, 4]), 5).tolist()
    [True, True, False]
    """
    index = np.arange(len(numbers))
    first = np.zeros(stop, np.int64)
    first[numbers[::-1]] = index[::-1]  # of several writes the last one stays
    return first.take(numbers) == index


def number_rows(rows: Table) -> Table:
    """int64 [S]: equal rows get the same number, 0, 1, ...; see ``grouped_rows``."""
    return grouped_rows(rows)[0]


def grouped_rows(rows: Table, stop: int | None = None) -> tuple[Table, Table]:
    """A number for each row [S], the same for equal ones, 0, 1, ..., and the first row with each number.

    stop: entries are known to be in -2..stop-1, where it is given.

    Short rows of small integers >= -2 by one integer each. Others by a 64-bit hash of each row; should two different
    rows share one, by comparing the rows themselves.
    """
    if stop is None:
        above_least = rows.view(np.uint64) + np.uint64(2)  # of integers below -2 a large number
        stop = int(above_least.max(initial=2)) - 1
    index_bits, bits = len(rows).bit_length(), (stop + 1).bit_length()
    if index_bits + bits * rows.shape[1] <= INTEGER_BITS:
        return _grouped_short_rows(rows, index_bits, bits)
    powers = np.cumprod(np.full(rows.shape[1], MULTIPLIER, np.uint64))
    mixed = rows.astype(np.uint64) * powers
    mixed ^= mixed >> np.uint64(29)
    key = (mixed * MULTIPLIER).sum(1, dtype=np.uint64)
    different, numbers = numbered(key)
    one_of = np.empty(len(different), np.int64)
    one_of[numbers] = np.arange(len(rows))
    if (rows != rows[one_of[numbers]]).any():
        numbers = np.unique(rows, axis=0, return_inverse=True)[1]
    numbers = numbers.reshape(-1)
    return numbers, representatives(numbers)


def numbered(values: NDArray[Any]) -> tuple[NDArray[Any], Table]:
    """As np.unique with return_inverse, for a row of integers, in fewer passes.

    >>> different, numbers = numbered(np.array([7, 4, 7]))
    >>> different.tolist(), numbers.tolist()
    ([4, 7], [1, 0, 1])
    """
    order = values.argsort()
    ordered = values.take(order)
    fresh, numbers_in_order = _runs(ordered)
    numbers = np.empty(len(values), np.int64)
    numbers[order] = numbers_in_order
    return ordered.compress(fresh), numbers


def _runs(ordered: NDArray[Any]) -> tuple[NDArray[np.bool_], Table]:
    """Whether each of some sorted integers is the first of its kind, and how many kinds there are before it."""
    fresh = np.empty(len(ordered), np.bool_)
    fresh[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    numbers = fresh.astype(np.int64)
    numbers[:1] = 0
    return fresh, np.add.accumulate(numbers, out=numbers)


def _grouped_short_rows(rows: Table, index_bits: int, bits: int) -> tuple[Table, Table]:
    """The same for rows whose entries, of so many bits, fit into one integer with the index of their row."""
    weights = [1 << (index_bits + bits * column) for column in range(rows.shape[1])]
    first = 2 * sum(weights)  # entries from 0 on
    word = rows @ np.array(weights)
    word += np.arange(first, first + len(rows))
    word.sort()  # faster than to sort indices
    index = word & ((1 << index_bits) - 1)
    word >>= index_bits
    fresh, numbers_in_order = _runs(word)
    numbers = np.empty(len(word), np.int64)
    numbers[index] = numbers_in_order
    return numbers, index.compress(fresh)
