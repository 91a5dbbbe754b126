"""A circuit over symbols as arrays: sums of products of two rows, children before parents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.minimise import INTEGER_BITS

Rows = NDArray[np.int64]


class Shape(NamedTuple):
    """The leaves of a circuit. given: the number of values of each entry of the label."""

    n_symbols: int
    n_values: int
    given: tuple[int, ...]

    @property
    def n_leaves(self) -> int:
        """Leaves of the symbols and of the label; also the row of the constant 1."""
        return self.n_symbols * self.n_values + sum(self.given)


class Level(NamedTuple):
    """Nodes that need those of lower levels alone, their terms, and the first of each among them."""

    nodes: slice
    terms: slice
    first: Rows


@dataclass(frozen=True)
class Graph:
    """A sum-product circuit; rows as in ``kernels.circuit_tables.CircuitTables``.

    n_symbols, n_values: of the hidden symbols. given: the number of values of each entry of the label. first [N + 1],
    left [T], right [T]: the terms of the nodes, sorted by level. The last node is the root.

    With leaves that are probabilities, those of a symbol summing to 1, a row that does not mention a symbol is a factor
    1 for it: circuits need not be smooth.
    """

    n_symbols: int
    n_values: int
    given: tuple[int, ...]
    first: Rows
    left: Rows
    right: Rows

    @property
    def n_leaves(self) -> int:
        """Leaves of the symbols and of the label; also the row of the constant 1."""
        return self.shape.n_leaves

    @property
    def shape(self) -> Shape:
        return Shape(self.n_symbols, self.n_values, self.given)

    @property
    def n_nodes(self) -> int:
        return len(self.first) - 1

    @property
    def n_rows(self) -> int:
        return self.n_leaves + 1 + self.n_nodes

    @property
    def n_edges(self) -> int:
        """Terms of all nodes: products of two rows, and single rows."""
        return len(self.left)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the levels, which are found again: checkpoints hold plain values alone."""
        return {name: value for name, value in vars(self).items() if name != "by_level"}

    @cached_property
    def parent(self) -> Rows:
        """The row of the node that each term belongs to [T]."""
        return self.n_leaves + 1 + np.repeat(np.arange(self.n_nodes), np.diff(self.first))

    @cached_property
    def node_levels(self) -> Rows:
        """[H + 1], the first node of each level."""
        return _level_starts(depths(self))

    @cached_property
    def by_level(self) -> list[Level]:
        """The levels from the leaves to the root."""
        nodes, terms = self.node_levels.tolist(), self.first[self.node_levels].tolist()
        pairs = zip(pairwise(nodes), pairwise(terms), strict=True)
        return [Level(slice(*a), slice(*b), self.first[slice(*a)] - b[0]) for a, b in pairs]


def _level_starts(of_node: Rows) -> Rows:
    """The first node of each level, and one past the last; of_node: the levels of all nodes, in ascending order."""
    return np.searchsorted(of_node, np.arange(1, of_node[-1] + 2))


def depths(graph: Graph) -> Rows:
    """The longest way from each node down to a leaf [N], at least 1."""
    fixed = graph.n_leaves + 1
    inner = [rows >= fixed for rows in (graph.left, graph.right)]
    below = np.concatenate([graph.left.compress(inner[0]), graph.right.compress(inner[1])])
    above = np.concatenate([graph.parent.compress(inner[0]), graph.parent.compress(inner[1])])
    below -= fixed
    above -= fixed
    return longest_ways(graph.n_nodes, below, above) + 1


def longest_ways(n_nodes: int, source: Rows, target: Rows) -> Rows:
    """The longest way that ends at each node of a graph [n_nodes]; edges source -> target.

    Raises ValueError where the graph has a circle.
    """
    leaving = source << 32
    leaving |= target
    leaving.sort()  # faster than to sort indices
    leaving &= 0xFFFFFFFF
    start = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=n_nodes))])
    waiting = np.bincount(target, minlength=n_nodes)
    length, scratch = np.zeros(n_nodes, np.int64), np.zeros(n_nodes, np.int64)
    ready, steps = np.flatnonzero(waiting == 0), 0
    n_done = 0
    while len(ready):
        n_done += len(ready)
        length[ready] = steps
        reached = leaving[ranges(start[ready], start[ready + 1])]
        np.subtract.at(waiting, reached, 1)
        ready, steps = distinct(reached[waiting[reached] == 0], scratch), steps + 1
    if n_done < n_nodes:
        raise ValueError(f"the circuit has a circle: {n_nodes - n_done} nodes need themselves")
    return length


def distinct(rows: Rows, scratch: Rows) -> Rows:
    """Each row once, in no particular order; scratch has room for all rows, whatever it holds.

    >>> distinct(np.array([4, 1, 4]), np.zeros(5, np.int64)).tolist()
    [1, 4]
    """
    index = np.arange(len(rows))
    scratch[rows] = index
    return rows[scratch[rows] == index]


def lexical_order(*keys: NDArray[np.integer]) -> Rows:
    """As np.lexsort, for integers in 0..2^31-1: the order by the last key, then by the one before it.

    >>> lexical_order(np.array([5, 4, 3, 2]), np.array([2, 0, 2, 1])).tolist()
    [1, 3, 2, 0]
    """
    order, word = None, np.arange(len(keys[0]))
    index_bits = filled = len(word).bit_length()
    for key in keys:
        bits = int(key.max(initial=0)).bit_length()
        if filled + bits > INTEGER_BITS:
            order = _sorted_indices(word, index_bits, order)
            word, filled = np.arange(len(order)), index_bits
        word |= np.left_shift(key if order is None else key[order], filled, dtype=np.int64)
        filled += bits
    return _sorted_indices(word, index_bits, order)


def _sorted_indices(word: Rows, index_bits: int, order: Rows | None) -> Rows:
    """The indices in the lowest bits of numbers, in the order of the numbers, which are overwritten.

    order: what the indices stand for, where it is not themselves.
    """
    word.sort()  # faster than to sort indices
    word &= (1 << index_bits) - 1
    return word if order is None else order[word]


def ranges(starts: Rows, stops: Rows) -> Rows:
    """The integers of all ranges start..stop-1, one range after the other.

    >>> ranges(np.array([0, 7]), np.array([2, 10])).tolist()
    [0, 1, 7, 8, 9]
    """
    sizes = stops - starts
    shift = np.repeat(starts - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) if len(sizes) else starts
    return np.arange(len(shift)) + shift


def sorted_by_level(graph: Graph, of_node: Rows | None = None) -> Graph:
    """The same circuit with its nodes sorted by level, and within a level by their number of terms.

    of_node: their ``depths``, where they are known. Raises ValueError for nodes that are children of themselves.
    """
    sizes = np.diff(graph.first)
    if of_node is None:
        of_node = depths(graph)
    order = lexical_order(sizes, of_node)
    fixed = graph.n_leaves + 1
    name = np.arange(graph.n_rows)
    name[fixed + order] = fixed + np.arange(graph.n_nodes)
    terms = ranges(graph.first[order], graph.first[order + 1])
    first = np.concatenate([[0], np.cumsum(sizes[order])])
    found = Graph(*graph.shape, first, name[graph.left[terms]], name[graph.right[terms]])
    vars(found)["node_levels"] = _level_starts(of_node[order])  # known here, and long to find
    return found


def assemble(shape: Shape, first: Rows, left: Rows, right: Rows, root: int, of_node: Rows | None = None) -> Graph:
    """The circuit of a row: the nodes that it needs, sorted by level.

    A product that a single sum takes as a single row becomes a term of that sum. Rows as in ``Graph``, but nodes in any
    order. of_node: their ``depths``, where they are known. A root that is a leaf or the constant becomes a node. Raises
    ValueError where a node needs itself.
    """
    fixed, one = shape.n_leaves + 1, shape.n_leaves
    if root < fixed:
        return Graph(*shape, np.array([0, 1]), np.array([root]), np.array([one]))
    nodes = needed_nodes(first, left, right, root - fixed, fixed)
    if len(nodes) < len(first) - 1:
        first, left, right = _only(nodes, first, left, right, fixed)
        of_node = None if of_node is None else of_node[nodes]
    inner = _inner(first, left, right, one, fixed)
    if len(inner):
        stays = np.ones(fixed + len(first) - 1, bool)
        stays[inner] = False
        taken = ~stays[left] & (right == one)
        term_of = first[np.where(taken, left - fixed, 0)]
        left, right = np.where(taken, left[term_of], left), np.where(taken, right[term_of], right)
        first, left, right = _only(np.flatnonzero(stays[fixed:]), first, left, right, fixed)
        of_node = None
    return sorted_by_level(Graph(*shape, first, left, right), of_node)


def _only(nodes: Rows, first: Rows, left: Rows, right: Rows, fixed: int) -> tuple[Rows, Rows, Rows]:
    """first, left and right of some nodes, in their order, which read each other and leaves alone."""
    name = np.arange(fixed + len(first) - 1)
    name[fixed + nodes] = fixed + np.arange(len(nodes))
    terms = ranges(first[nodes], first[nodes + 1])
    sizes = np.diff(first)[nodes]
    return np.concatenate([[0], np.cumsum(sizes)]), name[left[terms]], name[right[terms]]


def needed_nodes(first: Rows, left: Rows, right: Rows, root: int, fixed: int) -> Rows:
    """The nodes below a node, in ascending order; all are numbered from 0."""
    found = np.zeros(fixed + len(first) - 1, bool)
    found[left] = found[right] = found[fixed + root] = True
    if found[fixed:].all():  # every other one has a parent
        return np.arange(len(first) - 1)
    found, scratch = np.zeros(len(first) - 1, bool), np.zeros(len(first) - 1, np.int64)
    ready = np.array([root])
    while len(ready):
        found[ready] = True
        terms = ranges(first[ready], first[ready + 1])
        below = np.concatenate([left[terms], right[terms]]) - fixed
        below = below[below >= 0]
        ready = distinct(below[~found[below]], scratch)
    return np.flatnonzero(found)


def _inner(first: Rows, left: Rows, right: Rows, one: int, fixed: int) -> Rows:
    """The rows of products that one term takes as a single row."""
    single = left.compress(right == one)
    single = single[single >= fixed]
    single = single[np.diff(first)[single - fixed] == 1]
    if not len(single):
        return single
    uses = np.bincount(np.concatenate([left, right]), minlength=fixed + len(first) - 1)
    return single[uses[single] == 1]
