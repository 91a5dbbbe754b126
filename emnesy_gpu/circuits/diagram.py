"""The decision diagram of an automaton: its states at each position as nodes of a circuit.

A node is the probability that the rest of the symbols, read from a state, gives the label,

    beta_n(s) = o_n(s)        beta_{i-1}(s) = o_{i-1}(s) sum over t of P_i(s, t) beta_i(t)

with P_i(s, t) the sum of p_i over the values that lead from s to t, and o_i(s) the leaf of what the label has for a
state after position i, where it has anything. Rows that are constant vanish: a state that all values leave for one
other is that state. (Darwiche, "Tractable Boolean and arithmetic circuits", 2021, section 2.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import Ints, Layer, Machine, Observation, sources_of_all
from emnesy_gpu.automata.minimise import grouped_rows
from emnesy_gpu.circuits.graph import Graph, Rows, Shape, assemble, lexical_order, ranges

NO_ROW = -1
"""In place of a row: no assignment goes on from here."""


NO_SETS = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(1, np.int64)
"""The numbers, members and limits of sets of values where there are none."""


class _Moves(NamedTuple):
    """The pairs (source, target) of a layer, sorted, and the values that each pair shares.

    source, target, value: [P], the first value. several: the pairs with more than one. set_of: the number of the set of
    values of each of these. members: the values of the sets, one set after the other. first: [sets + 1].
    """

    source: Rows
    target: Rows
    value: Rows
    several: Rows
    set_of: Rows
    members: Rows
    first: Rows


class _Nodes:
    """Nodes as they are made, children first."""

    def __init__(self, first_row: int) -> None:
        self.n_rows = first_row
        self._parts: list[tuple[Rows, Rows, Rows, Rows]] = []

    def add(self, sizes: Rows, left: Rows, right: Rows, depths: Rows) -> Rows:
        """Rows of new nodes with so many terms each; depths: the longest way from each down to a leaf."""
        rows = np.arange(self.n_rows, self.n_rows + len(sizes))
        self.n_rows += len(sizes)
        self._parts.append((sizes, left, right, depths))
        return rows

    def graph(self, shape: Shape, root: int) -> Graph:
        sizes, left, right, depths = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return assemble(shape, np.concatenate([[0], np.cumsum(sizes)]), left, right, root, depths)


class _States(NamedTuple):
    """The states at a position: the row of each, NO_ROW for none, and its depth, 0 for leaves and the constant."""

    rows: Rows
    depths: Rows


NONE_KNOWN: Mapping[int, int] = MappingProxyType({})


def machine_graph(machine: Machine, known: Mapping[int, int] = NONE_KNOWN, order: Sequence[int] | None = None) -> Graph:
    """The circuit of a deterministic automaton.

    Entries of the label: what is observed after positions, in their order, and then the symbols at the positions that
    are keys of ``known``, which belong to the label and have so many values. All other symbols are hidden; order: the
    symbol that each of their positions reads, in place of the same order.

    Raises ValueError for weighted edges and for labels that are not a function of the state.
    """
    _check_deterministic(machine)
    places = _leaf_rows(machine, known, order)
    moves = _moves(machine.layers, machine.n_values)
    one = places.shape.n_leaves
    nodes = _Nodes(one + 1)
    nodes.add(*np.zeros((4, 0), np.int64))
    layer = machine.layers[machine.layer_of[-1]]
    states = _States(np.full(layer.n_after, one), np.zeros(layer.n_after, np.int64))
    for position in reversed(range(len(machine.layer_of))):
        if position in machine.observed:
            states = _seen(nodes, states, _label_rows(machine.observed[position], places.entry[position]), one)
        layer = machine.layers[machine.layer_of[position]]
        step = moves[machine.layer_of[position]]
        n_values = 0 if position in known else machine.n_values  # every part mentions all entries of the label
        states = _step(nodes, states, step, places.symbol[position], layer.n_before, (one, n_values))
    start = int(np.flatnonzero(machine.start)[0])
    return nodes.graph(places.shape, int(states.rows[start]))


class _Places(NamedTuple):
    """Sizes of the circuit, the first leaf of the symbol at each position, and of the entry seen after a position."""

    shape: Shape
    symbol: list[int]
    entry: dict[int, int]


def _leaf_rows(machine: Machine, known: Mapping[int, int], order: Sequence[int] | None) -> _Places:
    n, k = len(machine.layer_of), machine.n_values
    hidden = [i for i in range(n) if i not in known]
    given = tuple(len(seen.labels) for seen in machine.observed.values()) + tuple(known.values())
    shape = Shape(len(hidden), k, given)
    starts = (shape.n_symbols * k + np.concatenate([[0], np.cumsum(given)])).tolist()
    symbols = range(len(hidden)) if order is None else order
    symbol = {position: k * index for position, index in zip(hidden, symbols, strict=True)}
    symbol.update(zip(known, starts[len(machine.observed) :], strict=False))
    entry = dict(zip(machine.observed, starts, strict=False))
    return _Places(shape, [symbol[i] for i in range(n)], entry)


def _check_deterministic(machine: Machine) -> None:
    if machine.is_weighted or machine.has_noisy_labels:
        what = "weighted edges" if machine.is_weighted else "noisy labels"
        raise ValueError(f"a circuit cannot have {what}: use em.Automaton")


def _label_rows(seen: Observation, first_leaf: int) -> Rows:
    """The leaf of the label of each state, NO_ROW for states without one."""
    rows = np.full(seen.weights.shape[1], NO_ROW)
    label, state = np.nonzero(seen.weights)
    rows[state] = first_leaf + label
    return rows


def _moves(layers: Sequence[Layer], n_values: int) -> list[_Moves]:
    """The moves of each layer; the edges of all are sorted at once."""
    state = sources_of_all(layers)
    source, target, value = (np.concatenate(part) for part in zip(*map(_edges, layers), strict=True))
    order = lexical_order(value, target, state)
    state, source, target, value = (part.take(order).astype(np.int64) for part in (state, source, target, value))
    fresh = np.ones(len(order), bool)
    fresh[1:] = (state[1:] != state[:-1]) | (target[1:] != target[:-1])
    start = fresh.nonzero()[0]
    shares_values = np.diff(np.concatenate([start, [len(order)]])) > 1
    of_pair = source.take(start), target.take(start), value.take(start)
    edges = np.cumsum([0, *(len(layer.source) for layer in layers)])
    first_pair = np.searchsorted(start, edges).tolist()
    moves = []
    for (first, last), edge, stop in zip(pairwise(first_pair), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        several = shares_values[first:last].nonzero()[0]
        sets = _value_sets(value[edge:stop], start[first:last] - edge, several, n_values)
        sources, targets, values = (part[first:last] for part in of_pair)
        moves.append(_Moves(sources, targets, values, several, *sets))
    return moves


def _edges(layer: Layer) -> tuple[Ints, Ints, Ints]:
    return layer.source, layer.target, layer.value


def _value_sets(value: Rows, start: Rows, several: Rows, n_values: int) -> tuple[Rows, Rows, Rows]:
    """set_of, members and first of ``_Moves``; start: the first of the values of each pair."""
    if not len(several):
        return NO_SETS
    sets = np.bitwise_or.reduceat(_value_bits(value, n_values), start, axis=0)[several]
    set_of, one_of = grouped_rows(sets.view(np.int64))
    of_set, members = np.nonzero(np.unpackbits(sets[one_of].view(np.uint8), axis=1, bitorder="little"))
    return set_of, members, np.searchsorted(of_set, np.arange(len(one_of) + 1))


def _value_bits(value: Rows, n_values: int) -> NDArray[np.uint64]:
    """[E, words]: one bit for each value."""
    bits = np.zeros((len(value), n_values // 64 + 1), np.uint64)
    bits[np.arange(len(value)), value // 64] = np.uint64(1) << (value % 64).astype(np.uint64)
    return bits


def _seen(nodes: _Nodes, states: _States, leaves: Rows, one: int) -> _States:
    """States times the leaves of what is seen of them."""
    rows, depths = states
    seen = np.where((rows == NO_ROW) | (leaves == NO_ROW), NO_ROW, leaves)
    product = (seen != NO_ROW) & (rows != one)
    found = np.where(product, depths + 1, 0)
    n_products = int(product.sum())
    seen[product] = nodes.add(np.ones(n_products, np.int64), leaves[product], rows[product], found[product])
    return _States(seen, found)


def _step(
    nodes: _Nodes, after: _States, moves: _Moves, leaf: int, n_before: int, constants: tuple[int, int]
) -> _States:
    """The states before a symbol, from those after it. constants: the row of 1, and the number of values."""
    one, n_values = constants
    source, left, right = moves.source, _value_rows(nodes, moves, leaf, one, n_values), after.rows[moves.target]
    depths = after.depths[moves.target]
    alive = right != NO_ROW
    if not alive.all():
        source, left, right, depths = source[alive], left[alive], right[alive], depths[alive]
    if len(moves.several):
        np.maximum(depths, left > one, out=depths)  # sums of leaves are nodes
        swap = left == one
        left[swap], right[swap] = right[swap], one
    before = _States(np.full(n_before, NO_ROW), np.zeros(n_before, np.int64))
    sizes = np.bincount(source, minlength=n_before)
    same = right == one
    if same.any():
        same &= sizes[source] == 1
        before.rows[source[same]], before.depths[source[same]] = left[same], depths[same]
        sizes[source[same]] = 0
        left, right, depths = left[~same], right[~same], depths[~same]
    states = sizes.nonzero()[0]
    if len(states):
        sizes = sizes[states]
        found = np.maximum.reduceat(depths, sizes.cumsum() - sizes) + 1
        before.rows[states], before.depths[states] = nodes.add(sizes, left, right, found), found
    return before


def _value_rows(nodes: _Nodes, moves: _Moves, leaf: int, one: int, n_values: int) -> Rows:
    """The row of the values of each pair: a leaf, the constant for all n_values, or the sum of some leaves."""
    rows = leaf + moves.value
    if len(moves.several):
        sizes = np.diff(moves.first)
        of_set = np.full(len(sizes), one)
        sums = np.flatnonzero(sizes != n_values)
        members = moves.members[ranges(moves.first[sums], moves.first[sums + 1])]
        depths = np.ones(len(sums), np.int64)
        of_set[sums] = nodes.add(sizes[sums], leaf + members, np.full(len(members), one), depths)
        rows[moves.several] = of_set[moves.set_of]
    return rows
