"""How many factors of a graph hold, as tables of automata that kernels run: see ``kernels.score_tables``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import Layer
from emnesy_gpu.factor_graphs.potentials import Layers, Potential, Table
from emnesy_gpu.factor_graphs.tables import Scoped
from emnesy_gpu.kernels.score_tables import FACTORS, CompiledScore

FAILED = -1

Successors = NDArray[np.int32]
"""[S, K]: the state after each value, or FAILED."""


class _Writer:
    """Places of factors, and successors of which equal ones are stored once."""

    def __init__(self) -> None:
        self.first, self.places, self.parts = [0], list[tuple[int, int, int, int]](), list[Successors]()
        self._begin: dict[bytes, int] = {}
        self._length = 0

    def add(self, reads: Sequence[tuple[int, int, int]], successors: Sequence[Successors]) -> None:
        """A factor: what each place reads (symbol, entry of the label, power of the base), and its successors."""
        for (symbol, entry, power), table in zip(reads, successors, strict=True):
            self.places.append((symbol, self._offset(table), entry, power))
        self.first.append(len(self.places))

    def _offset(self, table: Successors) -> int:
        key = table.tobytes()
        if key not in self._begin:
            self._begin[key] = self._length
            self._length += table.size
            self.parts.append(table)
        return self._begin[key]


def make_score(
    factors: Sequence[Scoped], unary: NDArray[np.float64], n_symbols: int, digits: Sequence[tuple[int, int]]
) -> CompiledScore | None:
    """The score on the CPU; None where a factor is a chain of which a value leads on in several ways.

    Args:
        factors: of two symbols or more, and of one, which are in unary too.
        unary: float [symbols, K], weights of the values of each symbol; above 0 in all of them is the first constraint.
        n_symbols: hidden ones; those behind them are digits of the label.
        digits: of each, the entry of the label and the power of K.
    """
    chains = [layer for potential, _ in factors if isinstance(potential, Layers) for layer in potential.chain]
    if not all(layer.functional for layer in chains):
        return None
    k, writer = unary.shape[1], _Writer()
    allowed = np.where(unary[:n_symbols] > 0, 0, FAILED).astype(np.int32)
    some = [i for i in range(n_symbols) if (allowed[i] == FAILED).any()] or [0]
    writer.add([(i, 0, 1) for i in some], [allowed[i : i + 1] for i in some])
    for potential, scope in factors:
        if len(scope) > 1:
            reads = [(i, 0, 1) if i < n_symbols else (-1, *digits[i - n_symbols]) for i in scope]
            writer.add(reads, _successors(potential, len(scope), k))
    place = np.array(writer.places, np.int32).reshape(-1, 4)
    tables: tuple[NDArray[Any], ...] = (
        np.array(writer.first, np.int32),
        place,
        np.concatenate([part.ravel() for part in writer.parts]),
    )
    n_entries = 1 + max((entry for entry, _ in digits), default=-1)
    return CompiledScore(FACTORS, len(writer.first) - 1, tuple(map(torch.from_numpy, tables)), (k, n_entries))


def _successors(potential: Potential, n_read: int, k: int) -> list[Successors]:
    """Those of each place that a factor of two symbols or more reads."""
    if isinstance(potential, Table):
        return _of_table(potential.weights > 0, k)
    if isinstance(potential, Layers):
        return [_of_layer(layer, k) for layer in potential.chain]
    sums = _padded((np.arange(2)[:, None] + np.arange(2)) % 2, k)
    return [sums] * (n_read - 1) + [np.where(sums == potential.remainder, 0, FAILED).astype(np.int32)]


def _of_table(holds: NDArray[np.bool_], k: int) -> list[Successors]:
    """The state after the first symbol is its value."""
    first = np.where(holds.any(1), np.arange(len(holds)), FAILED)[None]
    return [_padded(first, k), _padded(np.where(holds, 0, FAILED), k)]


def _of_layer(layer: Layer, k: int) -> Successors:
    table = np.full((layer.n_before, k), FAILED, np.int32)
    table[layer.source, layer.value] = layer.target
    return table


def _padded(table: NDArray[Any], k: int) -> Successors:
    return np.pad(table, ((0, 0), (0, k - table.shape[1])), constant_values=FAILED).astype(np.int32)
