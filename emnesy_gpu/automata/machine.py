"""What an automaton is: layers of edges between states, and what is observed of the states."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEAD = -1
"""The successor of a state and a value that the rule forbids."""

MOST_IN_PAIRS = 256
"""States of which all pairs are looked at."""

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """The edges that one symbol takes: from ``source`` under ``value`` to ``target``, with a weight.

    source, value, target: int32 [E]; weight: float64 [E], at least 0. n_before, n_after: how many states there are on
    either side. A layer from a table of successors has at most one edge for a state and a value, of weight 1.
    """

    source: Ints
    value: Ints
    target: Ints
    weight: Floats
    n_before: int
    n_after: int

    @classmethod
    def from_successors(cls, successor: NDArray[np.int64], n_after: int) -> Layer:
        """From successor [S, K], DEAD where there is no edge."""
        return cls.all_from_successors([successor], [n_after])[0]

    @classmethod
    def all_from_successors(cls, tables: Sequence[NDArray[np.int64]], n_after: Sequence[int]) -> list[Layer]:
        """From several tables of equal width, in fewer passes than one by one."""
        successor = np.concatenate(tables)
        source, value = (successor >= 0).nonzero()
        target, values = successor[source, value].astype(np.int32), value.astype(np.int32)
        weight = np.ones(len(source))
        first_state = np.cumsum([0, *map(len, tables)])
        edge, state = np.searchsorted(source, first_state).tolist(), first_state.tolist()
        layers = []
        for index, after in enumerate(n_after):
            edges = slice(edge[index], edge[index + 1])
            here = (source[edges] - state[index]).astype(np.int32)
            layers.append(cls(here, values[edges], target[edges], weight[edges], len(tables[index]), after))
        return layers

    def successors(self, n_values: int) -> NDArray[np.int64]:
        """[S, K] of a deterministic layer."""
        table = np.full((self.n_before, n_values), DEAD, np.int64)
        table[self.source, self.value] = self.target
        return table

    @property
    def deterministic(self) -> bool:
        """Whether a state and a value lead to one state at most, with weight 1."""
        return _are_deterministic([self])

    @property
    def functional(self) -> bool:
        """Whether a state and a value lead to one state at most, with any weight."""
        used = self.weight > 0
        keys = self.source[used].astype(np.int64) << 32 | self.value[used]
        return len(np.unique(keys)) == len(keys)


@dataclass(frozen=True)
class Observation:
    """What the label says of the states after some position.

    labels: the values that this entry of the label can have, in ascending order. weights: float64 [len(labels), S],
    p(label | state), 0 or 1 where the label is a function of the state.
    """

    labels: tuple[Hashable, ...]
    weights: Floats


@dataclass(frozen=True)
class Machine:
    """An automaton that reads n symbols.

    layers: the different layers. layer_of: the layer of each position. n_values: of a symbol, the largest cardinality.
    start: float64 [S], the weights of the states before the first symbol. observed: position -> observation of the
    states after that symbol, in the order of the label's entries.
    """

    layers: tuple[Layer, ...]
    layer_of: tuple[int, ...]
    n_values: int
    start: Floats
    observed: dict[int, Observation]

    @property
    def is_weighted(self) -> bool:
        """Whether the last state is more than a function of the symbols."""
        return np.count_nonzero(self.start) != 1 or not _are_deterministic(self.layers)

    @property
    def is_ambiguous(self) -> bool:
        """Whether some symbols take several paths to states with a label, whose weights add up."""
        if not self.is_weighted:
            return False
        layers, last = [self.layers[index] for index in self.layer_of], len(self.layer_of) - 1
        end = np.ones(layers[-1].n_after, bool)
        if last in self.observed:
            end = self.observed[last].weights.sum(0) > 0
        return is_ambiguous(layers, self.start > 0, end)

    @property
    def has_noisy_labels(self) -> bool:
        """Whether a label is more than a function of the state."""
        weights = [seen.weights for seen in self.observed.values()]
        return any(not np.isin(w, (0.0, 1.0)).all() or bool((w.sum(0) > 1).any()) for w in weights)

    @property
    def n_states(self) -> int:
        """The largest number of states at any position."""
        return max(max(layer.n_before, layer.n_after) for layer in self.layers)

    @property
    def n_edges(self) -> int:
        """Edges of all positions together, values that act alike counted once."""
        edges = [len(set(zip(*_by_class(layer, self.n_values), strict=True))) for layer in self.layers]
        return sum(edges[index] for index in self.layer_of)


def is_ambiguous(layers: Sequence[Layer], start: NDArray[np.bool_], end: NDArray[np.bool_]) -> bool:
    """Whether two different paths from states of ``start`` to states of ``end`` have the same symbols.

    Pairs of states are followed that two such paths reach with the same symbols: O(S^3 K) a position, where a value
    leads on in several ways at all. Above ``MOST_IN_PAIRS`` states that alone counts.
    """
    functional = {id(layer): layer.functional for layer in layers}
    single = np.count_nonzero(start) < 2 and all(functional.values())
    if single or max(max(layer.n_before, layer.n_after) for layer in layers) > MOST_IN_PAIRS:
        return not single
    here, apart = start, np.triu(np.outer(start, start), 1)
    before: tuple[Layer | None, NDArray[np.bool_], NDArray[np.bool_]] = (None, here, apart)
    for layer in layers:
        if functional[id(layer)] and not apart.any():
            here, apart = _after(layer, here), np.zeros((layer.n_after, layer.n_after), bool)
            continue
        if layer is before[0] and np.array_equal(here, before[1]) and np.array_equal(apart, before[2]):
            continue
        before = layer, here, apart
        here, apart = _after(layer, here), _pairs_after(layer, here, apart)
    return bool(apart[np.ix_(end, end)].any())


def _after(layer: Layer, here: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = np.zeros(layer.n_after, bool)
    found[layer.target[here[layer.source] & (layer.weight > 0)]] = True
    return found


def _pairs_after(layer: Layer, here: NDArray[np.bool_], apart: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pairs [S, S] that two paths reach, of which one was taken alone or both were in a pair of ``apart``."""
    found = np.zeros((layer.n_after, layer.n_after), bool)
    pairs = (apart | apart.T).astype(np.float32)
    for value in np.unique(layer.value):
        edges = (layer.value == value) & (layer.weight > 0)
        step = np.zeros((layer.n_before, layer.n_after), np.float32)
        step[layer.source[edges], layer.target[edges]] = 1
        split = step[here].T @ step[here] > 0
        np.fill_diagonal(split, False)
        found |= (step.T @ pairs @ step > 0) | split
    return found


def _are_deterministic(layers: Sequence[Layer]) -> bool:
    """Whether all layers are, see ``Layer``."""
    states = sources_of_all(layers)
    keys = states << 32 | np.concatenate([layer.value for layer in layers])
    if (keys[1:] <= keys[:-1]).any():  # edges of tables are sorted
        keys.sort()
    weights = np.concatenate([layer.weight for layer in layers])
    return bool((weights == 1.0).all() and (keys[1:] != keys[:-1]).all())


def sources_of_all(layers: Sequence[Layer]) -> NDArray[np.int64]:
    """The sources of the edges of several layers, with a state of its own for each one of each layer."""
    first_state = np.cumsum([0, *(layer.n_before for layer in layers[:-1])])
    return np.concatenate([layer.source for layer in layers]) + first_state.repeat([len(x.source) for x in layers])


def _by_class(layer: Layer, n_values: int) -> tuple[list[int], list[int], list[int]]:
    classes = value_classes(layer, n_values)
    return layer.source.tolist(), classes[layer.value].tolist(), layer.target.tolist()


def value_classes(layer: Layer, n_values: int) -> Ints:
    """int32 [K]: values with the same edges share a class, numbered as they appear; DEAD for values without edges."""
    order = np.lexsort((layer.target, layer.source, layer.value))
    value = layer.value[order]
    rows = np.stack([layer.source[order], layer.target[order], layer.weight[order].view(np.int64)], 1)
    first = np.searchsorted(value, np.arange(n_values + 1))
    classes = np.full(n_values, DEAD, np.int32)
    seen: dict[bytes, int] = {}
    for v in range(n_values):
        edges = rows[first[v] : first[v + 1]]
        if len(edges):
            classes[v] = seen.setdefault(edges.tobytes(), len(seen))
    return classes
