"""Scores that kernels compute: how many constraints of a row an assignment satisfies."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SUM, AUTOMATON, LISTED, FUNCTION = "sum", "automaton", "listed", "function"
PATH, CIRCUIT, FACTORS = "path", "circuit", "factors"


class CompiledScore(NamedTuple):
    """A score of one of these kinds, with its tables and the numbers that a kernel is compiled for.

    sum: equal digits of a sum, the label [batch, n_constraints] from the most significant one on. sizes: (number of
        addends, base). Symbols are [addends, digits], from the most significant digit on.
    automaton: equal entries of the label [batch, n_constraints]; -1 is equal to all codes but -1. tables: successor
        int32 [L, S + 1, K], of which the last state is a sink; place int32 [n, 3], the layer, the symbol, and the entry
        of the label after it or -1; code int64 [n_constraints, S + 1]. A path that ends in the sink has the code -1
        everywhere. sizes: (S + 1, K).
    listed: the score of every assignment. tables: scores int64 [M, batch] by the number of the assignment, symbol_sizes
        int32 [n], the number of values of each symbol; the last symbol runs fastest.
    function: of the user, (z, y) -> integers, where z[i] and y[j] are symbols and entries of labels [batch, entries].
        sizes: (n, entries).
    path: cells that lie on both the cheapest path and the label [batch, H * W], of bits as in ``reference.grid_paths``,
        or on neither. tables: costs int32 [K] of the values, start and goal int32 [batch]. sizes: (H, W).
    circuit: entries of the label [batch, M] that a circuit explains; those not given count where it allows z. tables,
        int32, in the terms of ``kernels.circuit_tables``: label, which has N, the columns C of codes, given [M + 1] and
        codes [M, C] one after the other; first [N + 1]; terms [T, 2], left and right. sizes: (K,).
    factors: factors that hold, each an automaton with the states -1, where it fails, and 0 .. S - 1. tables, int32:
        first [n_constraints + 1], the first place of each factor; place [P, 4], the symbol (-1 for a digit of the
        label), where the successors [S, K] of its states begin, the entry of the label and the power of K of the digit;
        successors of all places. A digit that is not given leads on from every state. Without entries the label is 1,
        or 0: not all factors hold. sizes: (K, entries of the label).

    scratch: int32 numbers with which a kernel works on one assignment.
    """

    kind: str
    n_constraints: int
    tables: tuple[Tensor, ...] = ()
    sizes: tuple[int, ...] = ()
    function: Callable | None = None
    scratch: int = 0

    def to(self, device: torch.device) -> CompiledScore:
        return self._replace(tables=tuple(table.to(device) for table in self.tables))
