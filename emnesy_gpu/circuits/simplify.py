"""The same circuit with fewer nodes: constants folded, equal nodes once, products that one sum needs as its terms."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits.graph import Graph, Rows, depths, distinct, ranges, sorted_by_level

ZERO = -1
"""The name of a row that is 0 for every assignment."""

MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93], np.uint64)
"""Odd numbers whose products spread the terms of a node over 64 bits."""


def simplified(draft: Graph, root: int) -> Graph:
    """The circuit of one row of a draft.

    A draft is a Graph whose nodes stand in any order; a node without terms is the constant 0. Terms with the factor 0
    go, nodes of one single row become that row, nodes with equal terms become one, nodes that the root does not need
    go. A sum with a part that is constantly 1 is 1, as parts exclude each other.

    Raises ValueError for a root that is 0 for every assignment, and for a node that is a child of itself.
    """
    graph, name = _merged(*_needed(draft, root))
    if name == ZERO:
        raise ValueError("the circuit is false: no assignment satisfies it")
    return finished(graph, name)


def finished(graph: Graph, root: int) -> Graph:
    """What a row needs of a circuit without constants in it, sorted; products with one parent as terms of it."""
    fixed = graph.n_leaves + 1
    if root < fixed:  # a leaf or the constant: a node of its own
        row, one = np.array([root]), np.array([graph.n_leaves])
        return replace(graph, first=np.array([0, 1]), left=row, right=one)
    return sorted_by_level(_inlined(_needed(graph, root)[0]))


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
    return simplified(replace(graph, left=left, right=right), graph.n_rows - 1)


def _needed(graph: Graph, root: int) -> tuple[Graph, int]:
    """The nodes that a row needs, in their order, and the new name of the row."""
    fixed = graph.n_leaves + 1
    needed, scratch = np.zeros(graph.n_rows, bool), np.zeros(graph.n_rows, np.int64)
    fresh = np.array([root])
    needed[fresh] = True
    while len(fresh):
        nodes = fresh[fresh >= fixed] - fixed
        terms = ranges(graph.first[nodes], graph.first[nodes + 1])
        below = np.concatenate([graph.left[terms], graph.right[terms]])
        fresh = distinct(below[~needed[below]], scratch)
        needed[fresh] = True
    return _kept(graph, needed[fixed:]), fixed + int(needed[fixed:root].sum()) if root >= fixed else root


def _kept(graph: Graph, kept: NDArray[np.bool_]) -> Graph:
    """Some of the nodes [N]; what they read is among them."""
    fixed = graph.n_leaves + 1
    name = np.arange(graph.n_rows)
    name[fixed:] = fixed + np.cumsum(kept) - 1
    sizes = np.diff(graph.first)
    terms = np.repeat(kept, sizes)
    first = np.concatenate([[0], np.cumsum(sizes[kept])])
    return replace(graph, first=first, left=name[graph.left[terms]], right=name[graph.right[terms]])


def _inlined(graph: Graph) -> Graph:
    """A product with one parent that takes it as a single row becomes a term of it."""
    fixed, one = graph.n_leaves + 1, graph.n_leaves
    uses = np.bincount(graph.left, minlength=graph.n_rows) + np.bincount(graph.right, minlength=graph.n_rows)
    sizes = np.diff(graph.first)
    is_product = np.concatenate([np.zeros(fixed, bool), sizes == 1]) & (uses == 1)
    inside = np.flatnonzero((graph.right == one) & is_product[graph.left])
    inner = graph.left[inside]
    left, right = graph.left.copy(), graph.right.copy()
    left[inside], right[inside] = graph.left[graph.first[inner - fixed]], graph.right[graph.first[inner - fixed]]
    kept = np.ones(graph.n_nodes, bool)
    kept[inner - fixed] = False
    return _kept(replace(graph, left=left, right=right), kept)


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


def _merged(draft: Graph, root: int) -> tuple[Graph, int]:
    """Constants folded and equal nodes once, and the new name of a row."""
    fixed, one = draft.n_leaves + 1, draft.n_leaves
    name = np.full(draft.n_rows, ZERO, np.int64)
    name[:fixed] = np.arange(fixed)
    unique = _UniqueNodes(draft)
    level = depths(draft)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(1, level.max(initial=0) + 2))
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        nodes = order[begin:end]
        terms = ranges(draft.first[nodes], draft.first[nodes + 1])
        owner = np.repeat(np.arange(len(nodes)), draft.first[nodes + 1] - draft.first[nodes])
        found, is_true = _folded(name[draft.left[terms]], name[draft.right[terms]], owner, len(nodes), one)
        names = np.where(is_true, one, ZERO)
        single = (found.sizes == 1) & ~is_true
        single[single] = found.right[found.start[single]] == one
        names[single] = found.left[found.start[single]]
        rest = np.flatnonzero((found.sizes > 0) & ~is_true & ~single)
        names[rest] = unique.rows_of(nodes[rest], found.of(rest))
        name[fixed + nodes] = names
    return unique.graph(int(name[root]))


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
        self._draft, self._fixed = draft, draft.n_leaves + 1
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
        return ranges(self._draft.first[nodes], self._draft.first[nodes] + sizes)

    def _equal(self, nodes: Rows, terms: _Terms) -> NDArray[np.bool_]:
        """Whether each node has these terms."""
        equal = self._sizes[nodes] == terms.sizes
        ours, theirs = self._places(nodes[equal], self._sizes[nodes[equal]]), terms.of(np.flatnonzero(equal))
        if len(ours):
            same = (self._left[ours] == theirs.left) & (self._right[ours] == theirs.right)
            equal[equal] = np.logical_and.reduceat(same, theirs.start)
        return equal

    def graph(self, root: int) -> tuple[Graph, int]:
        """The nodes that stand for others or themselves, and the new name of a row."""
        nodes = np.flatnonzero(self._sizes)
        sizes = self._sizes[nodes]
        terms = self._places(nodes, sizes)
        name = np.arange(self._draft.n_rows)
        name[self._fixed + nodes] = self._fixed + np.arange(len(nodes))
        first = np.concatenate([[0], np.cumsum(sizes)])
        graph = replace(self._draft, first=first, left=name[self._left[terms]], right=name[self._right[terms]])
        return graph, root if root < self._fixed else int(name[root])


def _hashes(terms: _Terms) -> NDArray[np.uint64]:
    mixed = (terms.left.astype(np.uint64) + MIXERS[2]) * MIXERS[0]
    mixed ^= mixed >> np.uint64(31)
    mixed = (mixed + terms.right.astype(np.uint64)) * MIXERS[1]
    mixed ^= mixed >> np.uint64(29)
    return mixed * MIXERS[2]
