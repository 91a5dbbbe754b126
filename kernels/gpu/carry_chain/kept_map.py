"""Finds the most probable digits of positions whose tables are in scratch memory, a thread for each row, in float64.

As row_map.py, for sums whose tables would not fit in registers: logits are in scratch memory too, and every table is
computed in loops. Of the best digits only the carry-in and d_1 are kept. Those of d_2, ... are found when the path is
known, for its sums alone, from the same tables.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels import carry_chain_config
from emnesy_gpu.kernels.gpu.carry_chain.map_scores import NEVER, Best, better
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import (
    keep,
    keep_symbol,
    kept,
    table_entry,
    without_last,
)
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import repeated, replaced
from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, exp2

AT_ONCE = tl.constexpr(carry_chain_config.AT_ONCE)
CARRIES = tl.constexpr(4)
CODE_BITS = tl.constexpr(7)  # of the carry into a position and its d_1; an int32 has those of four carries out


@triton.constexpr_function
def _logits_place(j, addends, base):
    """Where the logits of addend j are: those of the last are h_k."""
    return (
        table_entry(addends, addends, base) if j == addends - 1 else table_entry(addends + 1, addends, base) + j * base
    )


@triton.jit
def _normaliser(rows, place, SIZES: tl.constexpr):
    """The largest logit of a symbol, and the sum of all exponentials over its own: NaN if they are no prior."""
    ROWS: tl.constexpr = rows.scratch.shape[0]
    high = tl.full(rows.scratch.shape, NEVER, SIZES.COMPUTE)
    pointers = rows.scratch + place * ROWS
    for _ in range(rows.base):
        high = tl.maximum(high, tl.load(pointers).to(SIZES.COMPUTE))
        pointers += ROWS
    total = tl.zeros_like(high)
    pointers = rows.scratch + place * ROWS
    for _ in range(rows.base):
        total += exp2((tl.load(pointers).to(SIZES.COMPUTE) - high) * LOG2_E)
        pointers += ROWS
    return high, total


@triton.jit
def _best_sums(rows, scores, table):
    """The largest of scores[v] + table[u - v] over the values v, for AT_ONCE sums u."""
    ROWS: tl.constexpr = rows.scratch.shape[0]
    sums = repeated(tl.full(rows.scratch.shape, NEVER, tl.float64), AT_ONCE)
    window = kept(rows.scratch, table + 1, AT_ONCE)
    own = rows.scratch + scores * ROWS
    below = rows.scratch + table * ROWS
    for _ in range(rows.base):
        score = tl.load(own)
        window = (tl.load(below),) + without_last(window)
        more = ()
        for u in tl.static_range(AT_ONCE):
            more = more + (tl.maximum(sums[u], score + window[u]),)
        sums = more
        own += ROWS
        below -= ROWS
    return sums


@triton.jit
def _keep_table(rows, J: tl.constexpr, SIZES: tl.constexpr):
    """Leaves h_{J + 1}, made of the logits of addend J and h_{J + 2}."""
    SCORES: tl.constexpr = _logits_place(J, SIZES.ADDENDS, SIZES.BASE)
    FROM: tl.constexpr = table_entry(J + 2, SIZES.ADDENDS, SIZES.BASE)
    TO: tl.constexpr = table_entry(J + 1, SIZES.ADDENDS, SIZES.BASE)
    for start in range(0, (SIZES.ADDENDS - J) * (rows.base - 1) + 1, AT_ONCE):
        keep(rows.scratch, _best_sums(rows, SCORES, FROM + start), TO + start)


@triton.jit
def _best_pairs(rows, table, SIZES: tl.constexpr):
    """The best d_1 by carry-in c: the largest l_1(v) + table[ADDENDS - 1 - c - v] and the smallest such v."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    ROWS: tl.constexpr = rows.scratch.shape[0]
    scores = repeated(tl.full(rows.scratch.shape, NEVER, tl.float64), ADDENDS)
    values = repeated(tl.zeros(rows.scratch.shape, tl.int32), ADDENDS)
    window = kept(rows.scratch, table + 1, ADDENDS)
    own = rows.scratch + _logits_place(0, ADDENDS, SIZES.BASE) * ROWS
    below = rows.scratch + table * ROWS
    for v in range(rows.base):
        score = tl.load(own)
        window = (tl.load(below),) + without_last(window)
        more_scores = ()
        more_values = ()
        for c in tl.static_range(ADDENDS):
            best = better(Best(scores[c], values[c]), score + window[ADDENDS - 1 - c], v)
            more_scores = more_scores + (best.score,)
            more_values = more_values + (best.code,)
        scores = more_scores
        values = more_values
        own += ROWS
        below -= ROWS
    return scores, values


@triton.jit
def _all_carried(alpha, rows, digit, SIZES: tl.constexpr):
    """The best scores of the carries out, and the codes of what they belong to: the carry in, and d_1 above it."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    START: tl.constexpr = table_entry(2, ADDENDS, SIZES.BASE) - (ADDENDS - 1)
    after = alpha
    codes = tl.zeros(digit.shape, tl.int32)
    for out in range(ADDENDS):
        scores, values = _best_pairs(rows, START + digit + SIZES.BASE * out, SIZES)
        best = Best(alpha[0] + scores[0], values[0] * CARRIES)
        for c in tl.static_range(1, ADDENDS):
            best = better(best, alpha[c] + scores[c], values[c] * CARRIES + c)
        after = replaced(after, out, best.score)
        codes |= best.code << (CODE_BITS * out)
    return after, codes


class Step(NamedTuple):
    """What a position gives: best scores and words, and for the normaliser largest logits and sums of all symbols."""

    alpha: Any
    words: Any  # the codes of the carries out, then the best d_2, ... if they are kept
    highs: Any
    totals: Any


@triton.jit
def step_kept(alpha, rows, i, digit, n_digits, SIZES: tl.constexpr):
    """Takes the best scores of the carries into a position to those of the carries out of it."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    highs = tl.zeros(digit.shape, tl.float64)
    totals = tl.full(digit.shape, 1.0, SIZES.COMPUTE)
    for j in tl.static_range(ADDENDS - 1, -1, -1):
        keep_symbol(rows, j, i, n_digits, _logits_place(j, ADDENDS, SIZES.BASE), SIZES)
        high, total = _normaliser(rows, _logits_place(j, ADDENDS, SIZES.BASE), SIZES)
        highs += high.to(tl.float64)
        totals *= total
        if (j > 0) & (j < ADDENDS - 1):
            _keep_table(rows, j, SIZES)
    after, codes = _all_carried(alpha, rows, digit, SIZES)
    return Step(after, (codes,), highs, totals)


@triton.jit
def _best_value(rows, scores, table):
    """The smallest value v of the largest scores[v] + table[-v]."""
    ROWS: tl.constexpr = rows.scratch.shape[0]
    best = Best(tl.full(rows.scratch.shape, NEVER, tl.float64), tl.zeros(rows.scratch.shape, tl.int32))
    own = rows.scratch + scores * ROWS
    other = rows.scratch + table * ROWS
    for v in range(rows.base):
        best = better(best, tl.load(own) + tl.load(other), v)
        own += ROWS
        other -= ROWS
    return best.code


@triton.jit
def follow_kept(rows, i, rest, possible, n_digits, SIZES: tl.constexpr):
    """Stores the best digits d_2, ..., whose sum is the rest."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    if ADDENDS > 2:
        for j in tl.static_range(ADDENDS - 1, 0, -1):
            keep_symbol(rows, j, i, n_digits, _logits_place(j, ADDENDS, BASE), SIZES)
            if (j > 1) & (j < ADDENDS - 1):
                _keep_table(rows, j, SIZES)
    for j in tl.static_range(1, ADDENDS - 1):
        # What rows without a path look up stays inside.
        rest = tl.where(possible, rest, 0)
        value = _best_value(rows, _logits_place(j, ADDENDS, BASE), table_entry(j + 2, ADDENDS, BASE) + rest)
        tl.store(rows.digits + (j * n_digits + i), value.to(tl.int64), mask=possible)
        rest -= value
    tl.store(rows.digits + ((ADDENDS - 1) * n_digits + i), rest.to(tl.int64), mask=possible)


@triton.jit
def most_probable_kept(rows, alone, n_digits, SIZES: tl.constexpr):
    """Leaves the smallest value of the largest logit of every symbol in the output of these rows."""
    ROWS: tl.constexpr = rows.scratch.shape[0]
    PLACE: tl.constexpr = _logits_place(SIZES.ADDENDS - 1, SIZES.ADDENDS, SIZES.BASE)
    for symbol in range(SIZES.ADDENDS * n_digits):
        keep_symbol(rows, 0, symbol, n_digits, PLACE, SIZES)
        pointers = rows.scratch + PLACE * ROWS
        best = Best(tl.load(pointers), tl.zeros(alone.shape, tl.int32))
        for v in range(1, rows.base):
            pointers += ROWS
            best = better(best, tl.load(pointers), v)
        tl.store(rows.digits + symbol, best.code.to(tl.int64), mask=alone)
