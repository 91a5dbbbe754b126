"""A circuit over symbols as arrays: sums of products of two rows, children before parents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


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
        return self.n_symbols * self.n_values + sum(self.given)

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

    @cached_property
    def parent(self) -> Rows:
        """The row of the node that each term belongs to [T]."""
        return self.n_leaves + 1 + np.repeat(np.arange(self.n_nodes), np.diff(self.first))

    @cached_property
    def node_levels(self) -> Rows:
        """[H + 1], the first node of each level."""
        of_node = depths(self)
        return np.searchsorted(of_node, np.arange(1, of_node[-1] + 2))

    def by_level(self) -> Iterator[tuple[slice, slice]]:
        """The nodes and the terms of each level, from the leaves to the root."""
        for start, stop in zip(self.node_levels[:-1].tolist(), self.node_levels[1:].tolist(), strict=True):
            yield slice(start, stop), slice(int(self.first[start]), int(self.first[stop]))


def depths(graph: Graph) -> Rows:
    """The longest way from each node down to a leaf [N], at least 1."""
    fixed = graph.n_leaves + 1
    inner = [rows >= fixed for rows in (graph.left, graph.right)]
    below = np.concatenate([graph.left[inner[0]], graph.right[inner[1]]])
    above = np.concatenate([graph.parent[inner[0]], graph.parent[inner[1]]])
    below -= fixed
    above -= fixed
    return longest_ways(graph.n_nodes, below, above) + 1


def longest_ways(n_nodes: int, source: Rows, target: Rows) -> Rows:
    """The longest way that ends at each node of a graph without circles [n_nodes]; edges source -> target.

    Raises ValueError for a circle.
    """
    leaving = source << 32
    leaving |= target
    leaving.sort()  # faster than to sort indices
    start = np.searchsorted(leaving, np.arange(n_nodes + 1) << 32)
    leaving &= 0xFFFFFFFF
    waiting = np.bincount(target, minlength=n_nodes)
    length, scratch = np.zeros(n_nodes, np.int64), np.zeros(n_nodes, np.int64)
    ready, steps = np.flatnonzero(waiting == 0), 0
    while len(ready):
        length[ready] = steps
        reached = leaving[ranges(start[ready], start[ready + 1])]
        np.subtract.at(waiting, reached, 1)
        ready, steps = distinct(reached[waiting[reached] == 0], scratch), steps + 1
    if waiting.any():
        raise ValueError("a node of the circuit is a child of itself")
    return length


def distinct(rows: Rows, scratch: Rows) -> Rows:
    """Each row once, in no particular order; scratch has room for all rows, whatever it holds.

    >>> distinct(np.array([4, 1, 4]), np.zeros(5, np.int64)).tolist()
    [1, 4]
    """
    index = np.arange(len(rows))
    scratch[rows] = index
    return rows[scratch[rows] == index]


def ranges(starts: Rows, stops: Rows) -> Rows:
    """The integers of all ranges start..stop-1, one range after the other.

    >>> ranges(np.array([0, 7]), np.array([2, 10])).tolist()
    [0, 1, 7, 8, 9]
    """
    sizes = stops - starts
    shift = np.repeat(starts - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) if len(sizes) else starts
    return np.arange(len(shift)) + shift


def sorted_by_level(graph: Graph) -> Graph:
    """The same circuit with its nodes sorted by level, and within a level by their number of terms.

    Raises ValueError for nodes that are children of themselves.
    """
    of_node, sizes = depths(graph), np.diff(graph.first)
    order = np.lexsort((sizes, of_node))
    fixed = graph.n_leaves + 1
    name = np.arange(graph.n_rows)
    name[fixed + order] = fixed + np.arange(graph.n_nodes)
    terms = ranges(graph.first[order], graph.first[order + 1])
    first = np.concatenate([[0], np.cumsum(sizes[order])])
    return Graph(graph.n_symbols, graph.n_values, graph.given, first, name[graph.left[terms]], name[graph.right[terms]])
