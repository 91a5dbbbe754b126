"""A circuit in the making, as blocks of arrays: what readers of files fill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emnesy_gpu.circuits.graph import Graph, Rows, assemble
from emnesy_gpu.circuits.simplify import simplified

BOTH_LABELS, TRUE_ALONE = (2,), (1,)
"""The entries of a label that says whether a theory holds: 0 or 1, or that it does."""


class Draft:
    """Nodes in any order, without any folding; rows as in ``Graph``, known as soon as their block is added."""

    def __init__(self, n_symbols: int, n_values: int, given: Sequence[int]) -> None:
        self.n_symbols, self.n_values, self.given = n_symbols, n_values, tuple(given)
        self.one = n_symbols * n_values + sum(self.given)
        self.next_row = self.one + 1
        self._blocks: dict[int, tuple[Rows, Rows, Rows]] = {}
        self.zero = self.reserve(1)

    def reserve(self, n_nodes: int) -> int:
        """Make room for nodes in a row, constants 0 until they are filled; returns the row of the first."""
        row = self.next_row
        self.next_row += n_nodes
        none = np.zeros(0, np.int64)
        self._blocks[row] = np.zeros(n_nodes, np.int64), none, none
        return row

    def fill(self, row: int, sizes: Rows, left: Rows, right: Rows) -> None:
        """Give all nodes of a block their terms left * right, so many to each as sizes says."""
        self._blocks[row] = sizes, left, right

    def add(self, sizes: Rows, left: Rows, right: Rows) -> int:
        """Add nodes; returns the row of the first."""
        row = self.reserve(len(sizes))
        self.fill(row, sizes, left, right)
        return row

    def products(self, factors: Rows, sizes: Rows) -> Rows:
        """The row of each product of some factors, in a row, as balanced trees."""
        return self.products_and_negations(factors, np.full(len(factors), self.zero), sizes)[0]

    def products_and_negations(self, factors: Rows, negations: Rows, sizes: Rows) -> tuple[Rows, Rows]:
        """The same, and the row that is true where the product is not: not a, or a and not b.

        negations: of the factors. What the root does not need goes in ``graph``.
        """
        group = np.repeat(np.arange(len(sizes)), sizes)
        kept = np.flatnonzero(factors != self.one)
        kept = kept[np.lexsort((factors[kept], group[kept]))]
        factors, negations, group = factors[kept], negations[kept], group[kept]
        while len(group) and (sizes := np.bincount(group, minlength=len(sizes))).max() > 1:
            place = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            pairs = np.flatnonzero((place % 2 == 0) & (place + 1 < np.repeat(sizes, sizes)))
            a, b, not_a, not_b = factors[pairs], factors[pairs + 1], negations[pairs], negations[pairs + 1]
            new = np.arange(len(pairs))
            factors[pairs] = self.add(np.ones(len(pairs), np.int64), a, b) + new
            left, right = np.stack([not_a, a], 1).ravel(), np.stack([np.full_like(a, self.one), not_b], 1).ravel()
            negations[pairs] = self.add(np.full(len(pairs), 2), left, right) + new
            stays = place % 2 == 0
            factors, negations, group = factors[stays], negations[stays], group[stays]
        rows, not_rows = np.full(len(sizes), self.one), np.full(len(sizes), self.zero)
        rows[group], not_rows[group] = factors, negations
        return rows, not_rows

    def theory(self, holds: int, fails: int | None = None) -> Graph:
        """The circuit with the label 1 where one row holds, and 0 where the other one does.

        Without the other one there is one label alone, the code 1.
        """
        leaf = self.n_symbols * self.n_values
        if fails is None:
            return self.graph([(leaf, holds)])
        return self.graph([(leaf + 1, holds), (leaf, fails)])

    def graph(self, terms: Sequence[tuple[int, int]]) -> Graph:
        """The simplified circuit of a sum of products; the draft is empty afterwards."""
        pairs = np.array(terms, np.int64)
        root = self.add(np.array([len(pairs)]), pairs[:, 0].copy(), pairs[:, 1].copy())
        parts = simplified(Graph(self.n_symbols, self.n_values, self.given, *self._arrays()), root)
        return assemble(*parts)

    def _arrays(self) -> tuple[Rows, Rows, Rows]:
        sizes, left, right = (np.concatenate(parts) for parts in zip(*self._blocks.values(), strict=True))
        self._blocks.clear()  # large
        return np.concatenate([[0], np.cumsum(sizes)]), left, right
