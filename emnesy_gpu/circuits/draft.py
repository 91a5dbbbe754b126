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
        group = np.repeat(np.arange(len(sizes)), sizes)
        kept = factors != self.one
        factors, group = factors[kept], group[kept]
        order = np.lexsort((factors, group))
        factors, group = factors[order], group[order]
        while True:
            sizes = np.bincount(group, minlength=len(sizes))
            if sizes.max(initial=0) <= 1:
                break
            place = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            is_first = (place % 2 == 0) & (place + 1 < np.repeat(sizes, sizes))
            pairs = np.flatnonzero(is_first)
            start = self.add(np.ones(len(pairs), np.int64), factors[pairs], factors[pairs + 1])
            factors[pairs] = start + np.arange(len(pairs))
            stays = place % 2 == 0
            factors, group = factors[stays], group[stays]
        rows = np.full(len(sizes), self.one)
        rows[group] = factors
        return rows

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
