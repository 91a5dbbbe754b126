"""The same circuit with fewer nodes: constants folded, equal nodes once."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits.graph import Graph, Rows, Shape, assemble, longest_ways, needed_nodes, ranges

ZERO = -1
"""The name of a row that is 0 for every assignment."""

MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93], np.uint64)
"""Odd numbers whose products spread the terms of a node over 64 bits."""


class Parts(NamedTuple):
    """What ``assemble`` takes: nodes in any order without constants, and the root."""

    shape: Shape
    first: Rows
    left: Rows
    right: Rows
    root: int


def simplified(draft: Graph, root: int) -> Parts:
    """The nodes that one row of a draft needs.

    A draft is a Graph whose nodes stand in any order; a node without terms is the constant 0. Terms with the factor 0
    go, nodes of one single row become that row, nodes with equal terms become one, nodes that the root does not need
    go. A sum with a part that is constantly 1 is 1, as parts exclude each other.

    Raises ValueError for a root that is 0 for every assignment, and for a node that needs itself.
    """
    fixed, one = draft.n_leaves + 1, draft.n_leaves
    name = np.full(draft.n_rows, ZERO, np.int64)
    name[:fixed] = np.arange(fixed)
    unique = _UniqueNodes(draft)
    for nodes in _needed_by_level(draft, root):
        name[fixed + nodes] = _names(draft, nodes, name, unique, one)
    if name[root] == ZERO:
        raise ValueError("the circuit is false: no assignment satisfies it")
    return unique.parts(int(name[root]))


def with_whole_symbols(graph: Graph) -> Graph:
    """The same circuit with the sum of all values of a symbol as what it is, 1."""
    one, k = graph.n_leaves, graph.n_values
    nodes = np.flatnonzero(np.diff(graph.first) == k)
    terms = graph.first[nodes][:, None] + np.arange(k)
    leaves = np.sort(graph.left[terms], 1)
    start = leaves[:, :1]
    whole = (start % k == 0) & (start < graph.n_symbols * k) & (leaves == start + np.arange(k))
    whole &= graph.right[terms] == one
    terms = terms[whole.all(1)].ravel()
    if not len(terms):
        return graph
    left, right = graph.left.copy(), graph.right.copy()
    left[terms] = right[terms] = one
    return assemble(*simplified(replace(graph, left=left, right=right), graph.n_rows - 1))


class _Terms(NamedTuple):
    """Terms of some nodes, in the order of the nodes; sizes: how many each has."""

    left: Rows
    right: Rows
    sizes: Rows

    @property
    def start(self) -> Rows:
        return np.cumsum(self.sizes) - self.sizes

    def of(self, nodes: Rows) -> _Terms:
        start = self.start[nodes]
        terms = ranges(start, start + self.sizes[nodes])
        return _Terms(self.left[terms], self.right[terms], self.sizes[nodes])


def _names(draft: Graph, nodes: Rows, name: Rows, unique: _UniqueNodes, one: int) -> Rows:
    """What stands for each of the nodes of a level: a row, the constant one, or ZERO."""
    sizes = draft.first[nodes + 1] - draft.first[nodes]
    terms = ranges(draft.first[nodes], draft.first[nodes + 1])
    owner = np.repeat(np.arange(len(nodes)), sizes)
    found, is_true = _folded(name[draft.left[terms]], name[draft.right[terms]], owner, len(nodes), one)
    names = np.where(is_true, one, ZERO)
    single = (found.sizes == 1) & ~is_true
    single[single] = found.right[found.start[single]] == one
    names[single] = found.left[found.start[single]]
    rest = np.flatnonzero((found.sizes > 0) & ~is_true & ~single)
    names[rest] = unique.rows_of(nodes[rest], found.of(rest))
    return names


def _needed_by_level(draft: Graph, root: int) -> list[Rows]:
    """The nodes that a row needs, children before parents."""
    fixed = draft.n_leaves + 1
    needed = needed_nodes(draft.first, draft.left, draft.right, root - fixed, fixed)
    place = np.zeros(draft.n_rows, np.int64)
    place[fixed + needed] = np.arange(len(needed))
    terms = ranges(draft.first[needed], draft.first[needed + 1])
    parent = np.repeat(np.arange(len(needed)), draft.first[needed + 1] - draft.first[needed])
    below = [rows[terms] for rows in (draft.left, draft.right)]
    inner = [rows >= fixed for rows in below]
    child = np.concatenate([place[rows[mask]] for rows, mask in zip(below, inner, strict=True)])
    level = longest_ways(len(needed), child, np.concatenate([parent[mask] for mask in inner]))
    order = np.argsort(level, kind="stable")
    return np.split(needed[order], np.searchsorted(level[order], np.arange(1, level.max(initial=0) + 1)))


def _folded(left: Rows, right: Rows, owner: Rows, n_nodes: int, one: int) -> tuple[_Terms, NDArray[np.bool_]]:
    """Terms without the factor 0, in an order that depends on their rows alone, and the nodes that are 1.

    The constant 1 stands on the right; of two other rows the smaller one stands on the left.
    """
    alive = (left != ZERO) & (right != ZERO)
    left, right, owner = left[alive], right[alive], owner[alive]
    swap = (right != one) & ((left == one) | (left > right))
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    is_true = np.zeros(n_nodes, bool)
    is_true[owner[(left == one) & (right == one)]] = True
    order = np.lexsort((left << 32 | right, owner))
    return _Terms(left[order], right[order], np.bincount(owner, minlength=n_nodes)), is_true


class _UniqueNodes:
    """Nodes by their terms; of equal nodes the first one stands for all, under its row in the draft."""

    def __init__(self, draft: Graph) -> None:
        self._shape, self._fixed, self._first = draft.shape, draft.n_leaves + 1, draft.first
        self._left, self._right = np.empty_like(draft.left), np.empty_like(draft.right)
        self._sizes = np.zeros(draft.n_nodes, np.int64)
        self._row_of: dict[int, int] = {}

    def rows_of(self, nodes: Rows, terms: _Terms) -> Rows:
        """The row that stands for each node. Two different nodes with one hash stay two nodes."""
        if not len(nodes):
            return nodes
        own = self._fixed + nodes
        hashes = np.add.reduceat(_hashes(terms), terms.start).tolist()
        rows = np.fromiter(map(self._row_of.setdefault, hashes, own.tolist()), np.int64, len(nodes))
        self._store(np.flatnonzero(rows == own), nodes, terms)
        again = np.flatnonzero(rows != own)
        if len(again):
            other = again[~self._equal(rows[again] - self._fixed, terms.of(again))]
            rows[other] = own[other]
            self._store(other, nodes, terms)
        return rows

    def _store(self, which: Rows, nodes: Rows, terms: _Terms) -> None:
        mine = terms.of(which)
        place = self._places(nodes[which], mine.sizes)
        self._left[place], self._right[place], self._sizes[nodes[which]] = mine.left, mine.right, mine.sizes

    def _places(self, nodes: Rows, sizes: Rows) -> Rows:
        return ranges(self._first[nodes], self._first[nodes] + sizes)

    def _equal(self, nodes: Rows, terms: _Terms) -> NDArray[np.bool_]:
        """Whether each node has these terms."""
        equal = self._sizes[nodes] == terms.sizes
        ours, theirs = self._places(nodes[equal], self._sizes[nodes[equal]]), terms.of(np.flatnonzero(equal))
        if len(ours):
            same = (self._left[ours] == theirs.left) & (self._right[ours] == theirs.right)
            equal[equal] = np.logical_and.reduceat(same, theirs.start)
        return equal

    def parts(self, root: int) -> Parts:
        """The nodes that stand for others or themselves."""
        nodes = np.flatnonzero(self._sizes)
        sizes = self._sizes[nodes]
        terms = self._places(nodes, sizes)
        name = np.arange(self._fixed + len(self._sizes))
        name[self._fixed + nodes] = self._fixed + np.arange(len(nodes))
        first = np.concatenate([[0], np.cumsum(sizes)])
        return Parts(self._shape, first, name[self._left[terms]], name[self._right[terms]], int(name[root]))


def _hashes(terms: _Terms) -> NDArray[np.uint64]:
    mixed = (terms.left.astype(np.uint64) + MIXERS[2]) * MIXERS[0]
    mixed ^= mixed >> np.uint64(31)
    mixed = (mixed + terms.right.astype(np.uint64)) * MIXERS[1]
    mixed ^= mixed >> np.uint64(29)
    return mixed * MIXERS[2]
