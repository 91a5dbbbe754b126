"""Scores that kernels compute: how many constraints of a row an assignment satisfies."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

SUM, AUTOMATON, LISTED, FUNCTION = "sum", "automaton", "listed", "function"


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
    """

    kind: str
    n_constraints: int
    tables: tuple[Tensor, ...] = ()
    sizes: tuple[int, ...] = ()
    function: Callable | None = None
