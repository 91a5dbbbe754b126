"""Building a circuit node by node: equal nodes once, and constants folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from emnesy_gpu.circuits.graph import Graph, Shape, assemble

FALSE, TRUE = -1, -2
"""Rows of the constants, as the methods of a builder take and return them."""

Term = tuple[int, int]


class Builder:
    """Makes the rows of a circuit, each named by an integer: leaves, sums of products of two rows, and constants.

    Sums are over parts that exclude each other, and the two rows of a product mention no symbol in common: the builder
    does not check it, ``checks`` does. Leaves are named as in ``Graph``; nodes get their final rows in ``graph``.

    Args:
        n_symbols, n_values: of the hidden symbols.
        given: the number of values of each entry of the label.

    >>> b = Builder(2, 2)
    >>> either = b.sum([(b.leaf(0, 1), TRUE), (b.leaf(0, 0), b.leaf(1, 1))])                # bit 0 or bit 1
    >>> b.graph(either).n_edges, b.values_of(0, [0, 1]) == TRUE
    (2, True)
    """

    def __init__(self, n_symbols: int, n_values: int, given: Sequence[int] = ()) -> None:
        self.n_symbols, self.n_values, self.given = n_symbols, n_values, tuple(given)
        self._n_leaves = n_symbols * n_values + sum(self.given)
        self._nodes: list[tuple[Term, ...]] = []
        self._known: dict[tuple[Term, ...], int] = {}

    def leaf(self, symbol: int, value: int) -> int:
        """That a symbol has a value."""
        return symbol * self.n_values + value

    def label_leaf(self, entry: int, value: int) -> int:
        """That an entry of the label has a value, or is not given."""
        return self.n_symbols * self.n_values + sum(self.given[:entry]) + value

    def values_of(self, symbol: int, values: Iterable[int]) -> int:
        """That a symbol has one of some values."""
        different = set(values)
        if len(different) == self.n_values:
            return TRUE
        return self.sum([(self.leaf(symbol, value), TRUE) for value in different])

    def product(self, rows: Iterable[int]) -> int:
        """The product of any number of rows, as a balanced tree."""
        parts = sorted({row for row in rows if row != TRUE})
        if FALSE in parts:
            return FALSE
        while len(parts) > 1:
            pairs = [self.sum([(a, b)]) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(parts) & ~1 :]
        return parts[0] if parts else TRUE

    def sum(self, terms: Iterable[Term]) -> int:
        """The sum of products of two rows; where one is TRUE, the others are 0, as parts exclude each other."""
        kept = []
        for a, b in terms:
            if a == TRUE and b == TRUE:
                return TRUE
            if FALSE not in (a, b):
                kept.append((min(a, b), max(a, b)) if TRUE not in (a, b) else (max(a, b), TRUE))
        if not kept:
            return FALSE
        if len(kept) == 1 and kept[0][1] == TRUE:
            return kept[0][0]
        key = tuple(sorted(kept))
        row = self._known.get(key)
        if row is None:
            row = self._known[key] = self._n_leaves + len(self._nodes)
            self._nodes.append(key)
        return row

    def graph(self, root: int) -> Graph:
        """The circuit of a row: what it needs, with products that a single sum needs as terms of that sum.

        Raises ValueError for FALSE, which no assignment satisfies.
        """
        if root == FALSE:
            raise ValueError("the circuit is false: no assignment satisfies it")
        one = self._n_leaves
        if root >= 0:
            root += root >= one  # rows of a graph have the constant before the nodes
        sizes = [len(terms) for terms in self._nodes]
        rows = np.fromiter((row for terms in self._nodes for term in terms for row in term), np.int64, 2 * sum(sizes))
        rows += rows >= one
        rows[rows == TRUE] = one
        first = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        shape = Shape(self.n_symbols, self.n_values, self.given)
        return assemble(shape, first, rows[::2].copy(), rows[1::2].copy(), one if root == TRUE else root)
