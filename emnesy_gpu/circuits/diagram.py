"""The decision diagram of an automaton: its states at each position as nodes of a circuit.

A node is the probability that the rest of the symbols, read from a state, gives the label,

    beta_n(s) = o_n(s)        beta_{i-1}(s) = o_{i-1}(s) sum over t of P_i(s, t) beta_i(t)

with P_i(s, t) the sum of p_i over the values that lead from s to t, and o_i(s) the leaf of what the label has for a
state after position i, where it has anything. Rows that are constant vanish: a state that all values leave for one
other is that state. (Darwiche, "Tractable Boolean and arithmetic circuits", 2021, section 2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import Layer, Machine, Observation
from emnesy_gpu.automata.minimise import grouped_rows
from emnesy_gpu.circuits.graph import Graph, Rows, Shape, assemble, lexical_order, ranges

NO_ROW = -1
"""In place of a row: no assignment goes on from here."""


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
        self._parts: list[tuple[Rows, Rows, Rows]] = []

    def add(self, sizes: Rows, left: Rows, right: Rows) -> Rows:
        """Rows of new nodes with so many terms each."""
        rows = self.n_rows + np.arange(len(sizes))
        self.n_rows += len(sizes)
        self._parts.append((sizes, left, right))
        return rows

    def graph(self, shape: Shape, root: int) -> Graph:
        sizes, left, right = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return assemble(shape, np.concatenate([[0], np.cumsum(sizes)]), left, right, root)


def machine_graph(machine: Machine, known: Sequence[int] = (), order: Sequence[int] | None = None) -> Graph:
    """The circuit of a deterministic automaton.

    Entries of the label: what is observed after positions, in their order, and then the symbols at ``known`` positions,
    which belong to the label. All other symbols are hidden; order: the symbol that each of their positions reads, in
    place of the same order.

    Raises ValueError for weighted edges and for labels that are not a function of the state.
    """
    _check_deterministic(machine)
    places = _leaf_rows(machine, known, order)
    moves = [_moves(layer, machine.n_values) for layer in machine.layers]
    one = places.shape.n_leaves
    nodes = _Nodes(one + 1)
    nodes.add(*np.zeros((3, 0), np.int64))
    layer = machine.layers[machine.layer_of[-1]]
    rows = np.full(layer.n_after, one)
    for position in reversed(range(len(machine.layer_of))):
        if position in machine.observed:
            rows = _seen(nodes, rows, _label_rows(machine.observed[position], places.entry[position]), one)
        layer = machine.layers[machine.layer_of[position]]
        step = moves[machine.layer_of[position]]
        n_values = 0 if position in known else machine.n_values  # every part mentions all entries of the label
        rows = _step(nodes, rows, step, places.symbol[position], layer.n_before, (one, n_values))
    start = int(np.flatnonzero(machine.start)[0])
    return nodes.graph(places.shape, int(rows[start]))


class _Places(NamedTuple):
    """Sizes of the circuit, the first leaf of the symbol at each position, and of the entry seen after a position."""

    shape: Shape
    symbol: list[int]
    entry: dict[int, int]


def _leaf_rows(machine: Machine, known: Sequence[int], order: Sequence[int] | None) -> _Places:
    n, k = len(machine.layer_of), machine.n_values
    hidden = [i for i in range(n) if i not in set(known)]
    given = tuple(len(seen.labels) for seen in machine.observed.values()) + (k,) * len(known)
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


def _moves(layer: Layer, n_values: int) -> _Moves:
    order = lexical_order(layer.value, layer.target, layer.source)
    source, target, value = (part[order].astype(np.int64) for part in (layer.source, layer.target, layer.value))
    fresh = np.ones(len(source), bool)
    fresh[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    start = np.flatnonzero(fresh)
    several = np.flatnonzero(np.diff(start, append=len(source)) > 1)
    return _Moves(source[start], target[start], value[start], several, *_value_sets(value, start, several, n_values))


def _value_sets(value: Rows, start: Rows, several: Rows, n_values: int) -> tuple[Rows, Rows, Rows]:
    """set_of, members and first of ``_Moves``; start: the first of the values of each pair."""
    if not len(several):
        return several, several, np.zeros(1, np.int64)
    sets = np.bitwise_or.reduceat(_value_bits(value, n_values), start, axis=0)[several]
    set_of, one_of = grouped_rows(sets.view(np.int64))
    of_set, members = np.nonzero(np.unpackbits(sets[one_of].view(np.uint8), axis=1, bitorder="little"))
    return set_of, members, np.searchsorted(of_set, np.arange(len(one_of) + 1))


def _value_bits(value: Rows, n_values: int) -> NDArray[np.uint64]:
    """[E, words]: one bit for each value."""
    bits = np.zeros((len(value), n_values // 64 + 1), np.uint64)
    bits[np.arange(len(value)), value // 64] = np.uint64(1) << (value % 64).astype(np.uint64)
    return bits


def _seen(nodes: _Nodes, rows: Rows, leaves: Rows, one: int) -> Rows:
    """Rows of states times the leaves of what is seen of them."""
    seen = np.where((rows == NO_ROW) | (leaves == NO_ROW), NO_ROW, leaves)
    product = (seen != NO_ROW) & (rows != one)
    seen[product] = nodes.add(np.ones(int(product.sum()), np.int64), leaves[product], rows[product])
    return seen


def _step(nodes: _Nodes, rows: Rows, moves: _Moves, leaf: int, n_before: int, constants: tuple[int, int]) -> Rows:
    """Rows of the states before a symbol, from those after it. constants: the row of 1, and the number of values."""
    one, n_values = constants
    values = _value_rows(nodes, moves, leaf, one, n_values)
    ahead = rows[moves.target]
    alive = ahead != NO_ROW
    source, left, right = moves.source[alive], values[alive], ahead[alive]
    swap = left == one
    left[swap], right[swap] = right[swap], one
    before = np.full(n_before, NO_ROW)
    alone = np.bincount(source, minlength=n_before)[source] == 1
    same = alone & (right == one)
    before[source[same]] = left[same]
    source, left, right = source[~same], left[~same], right[~same]
    sizes = np.bincount(source, minlength=n_before)
    states = np.flatnonzero(sizes)
    before[states] = nodes.add(sizes[states], left, right)
    return before


def _value_rows(nodes: _Nodes, moves: _Moves, leaf: int, one: int, n_values: int) -> Rows:
    """The row of the values of each pair: a leaf, the constant for all n_values, or the sum of some leaves."""
    rows = leaf + moves.value
    if len(moves.several):
        sizes = np.diff(moves.first)
        of_set = np.full(len(sizes), one)
        sums = np.flatnonzero(sizes != n_values)
        members = moves.members[ranges(moves.first[sums], moves.first[sums + 1])]
        of_set[sums] = nodes.add(sizes[sums], leaf + members, np.full(len(members), one))
        rows[moves.several] = of_set[moves.set_of]
    return rows
