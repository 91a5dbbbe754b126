"""Scores the two sides of assignments, for the kernels of this folder. One program takes one row of the batch.

The score of a side is the sum over its symbols, in ascending order, of logit - largest logit of the symbol, in float64.
So it is 0 or less, and 0 for the best side. The score of an assignment is that of its left plus that of its right side:
sums and differences alone, so that ties are the same on every back end.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.logits import load_float64
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LOGITS, POSSIBLE

NEG_INF = tl.constexpr(float("-inf"))
UNKNOWN = tl.constexpr(-1)
"""The code of a label that no assignment has."""


class Options(NamedTuple):
    """Types and sizes known at compile time; the sizes are powers of two."""

    COMPUTE: tl.constexpr  # type of results, to which logits are rounded
    PER_ROW: tl.constexpr  # whether codes are scores given the label of the row
    LANES: tl.constexpr  # right sides at once
    OTHERS: tl.constexpr  # left sides at once
    SIDES: tl.constexpr  # sides that are scored at once
    ROWS: tl.constexpr  # symbols at once
    WIDTH: tl.constexpr  # values of a symbol at once


class Table(NamedTuple):
    """The table of assignments, and the sizes of a row of the batch; see emnesy_gpu.kernels.joint_tables."""

    symbols: object  # int32 [n, 2]
    codes: object  # [left, right], or scores [left, right, batch] from those of the row on
    known: object  # int64 [n_known, entries]
    n_known: object
    entries: object
    n: object
    k: object
    n_left: object
    left: object
    right: object
    batch: object
    least_score: object


@triton.jit
def _is_not_after(table, index, label_ptr, mask):
    """Which of the known labels [index] are at most the label in lexicographic order, and which are equal to it."""
    less = index < 0
    equal = index >= 0
    for entry in range(table.entries):
        mine = tl.load(table.known + index * table.entries + entry, mask=mask, other=0)
        theirs = tl.load(label_ptr + entry)
        less |= equal & (mine < theirs)
        equal &= mine == theirs
    return (less | equal) & mask, equal & mask


@triton.jit
def code_of(table, label_ptr, OPTIONS: tl.constexpr):
    """The code of the assignments that have the label [entries] of the row; UNKNOWN if none has. Or the least score."""
    if OPTIONS.PER_ROW:
        return table.least_score
    else:
        LABELS: tl.constexpr = 256
        step = (table.n_known + LABELS - 1) // LABELS
        index = tl.arange(0, LABELS) * step
        before, _ = _is_not_after(table, index, label_ptr, index < table.n_known)
        start = tl.maximum(tl.sum(before.to(tl.int32)) - 1, 0) * step
        index = start + tl.arange(0, LABELS)
        _, equal = _is_not_after(table, index, label_ptr, index < table.n_known)
        return tl.max(tl.where(equal, index, UNKNOWN))


@triton.jit
def size_of(table, symbol):
    """The number of values of symbols, of any shape; 0 beyond the last symbol."""
    return tl.load(table.symbols + 2 * symbol, mask=symbol < table.n, other=0)


@triton.jit
def side_of(table, symbol):
    """The strides of symbols in the numbers of their side, and where that is the left one."""
    return tl.load(table.symbols + 2 * symbol + 1, mask=symbol < table.n, other=1), symbol < table.n_left


@triton.jit
def store_symbols(table, logits_ptr, symbols_ptr, OPTIONS: tl.constexpr):
    """Writes the largest logit of each symbol (0 if it has none) and the sum of exp(logit - largest), float64 [n, 2].

    Returns the sum over symbols of the log of these sums, and the status as far as the logits go.
    """
    log_total = tl.zeros((1,), tl.float64)
    broken = tl.zeros((1,), tl.int32)
    for first in range(0, table.n, OPTIONS.ROWS):
        symbol = first + tl.arange(0, OPTIONS.ROWS)[:, None]
        size = size_of(table, symbol)
        high = tl.full((OPTIONS.ROWS, 1), NEG_INF, tl.float64)
        wrong = tl.zeros((OPTIONS.ROWS, 1), tl.int32)
        for start in range(0, table.k, OPTIONS.WIDTH):
            value = start + tl.arange(0, OPTIONS.WIDTH)[None, :]
            logits = load_float64(logits_ptr + symbol * table.k + value, value < size, OPTIONS.COMPUTE)
            high = tl.maximum(high, tl.max(logits, 1, keep_dims=True))
            too_large = (value < size) & ~(logits < float("inf"))
            wrong = tl.maximum(wrong, tl.max(too_large.to(tl.int32), 1, keep_dims=True))
        wrong = tl.maximum(wrong, ((size > 0) & ~(high > NEG_INF)).to(tl.int32))
        high = tl.where(high > NEG_INF, high, 0.0)
        total = tl.zeros((OPTIONS.ROWS, 1), tl.float64)
        for start in range(0, table.k, OPTIONS.WIDTH):
            value = start + tl.arange(0, OPTIONS.WIDTH)[None, :]
            logits = load_float64(logits_ptr + symbol * table.k + value, value < size, OPTIONS.COMPUTE)
            total += tl.sum(exp2((logits - high) * LOG2_E), 1, keep_dims=True)
        tl.store(symbols_ptr + 2 * symbol, high, mask=symbol < table.n)
        tl.store(symbols_ptr + 2 * symbol + 1, total, mask=symbol < table.n)
        log_total += tl.sum(tl.where(total >= 1.0, LN_2 * log2(tl.where(total >= 1.0, total, 1.0)), 0.0))
        broken += tl.sum(wrong)
    return tl.sum(log_total), tl.where(tl.max(broken) > 0, INVALID_LOGITS, POSSIBLE)


@triton.jit
def _store_side(table, logits_ptr, symbols_ptr, scores_ptr, start, stop, size, OPTIONS: tl.constexpr):
    """Writes the scores [size] of the sides that the symbols from start up to stop make."""
    for first in range(0, size, OPTIONS.SIDES):
        m = first + tl.arange(0, OPTIONS.SIDES)
        score = tl.zeros((OPTIONS.SIDES,), tl.float64)
        for i in range(start, stop):
            v = m // tl.load(table.symbols + 2 * i + 1) % tl.load(table.symbols + 2 * i)
            logits = load_float64(logits_ptr + i * table.k + v, m < size, OPTIONS.COMPUTE)
            score += logits - tl.load(symbols_ptr + 2 * i)
        tl.store(scores_ptr + m, score, mask=m < size)


@triton.jit
def store_scores(table, logits_ptr, symbols_ptr, scores_ptr, OPTIONS: tl.constexpr):
    """Writes the scores of all left sides, and then of all right sides, float64 [left + right]."""
    tl.debug_barrier()
    _store_side(table, logits_ptr, symbols_ptr, scores_ptr, 0, table.n_left, table.left, OPTIONS)
    right_ptr = scores_ptr + table.left
    _store_side(table, logits_ptr, symbols_ptr, right_ptr, table.n_left, table.n, table.right, OPTIONS)
    tl.debug_barrier()


@triton.jit
def has_label(table, a, b, code, OPTIONS: tl.constexpr):
    """Where the assignments of left sides a and right sides b, which broadcast, have the label of this code."""
    mask = (a < table.left) & (b < table.right)
    m = a * table.right + b
    if OPTIONS.PER_ROW:
        score = tl.load(table.codes + m.to(tl.int64) * table.batch, mask=mask, other=0)
        return mask & (score.to(tl.int64) >= code)
    else:
        return mask & (tl.load(table.codes + m, mask=mask, other=0).to(tl.int32) == code)


@triton.jit
def final_status(status, high):
    """The status of valid logits is that of the largest score or weight of the label, of which `high` says if it is."""
    return tl.where((status == POSSIBLE) & ~high, IMPOSSIBLE, status)
