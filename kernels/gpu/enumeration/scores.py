"""Scores listed assignments, for the kernels of this folder. One program takes one row of the batch.

Assignments lie in lanes. The score of one is the sum of its raw logits, in float64 and in ascending order of the
symbols, so that logits of 1e4 lose nothing and ties are the same on every back end. Weights are exp(score - largest
score), at most 1. Large lists go block by block.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.logits import load_float64
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE

NEG_INF = tl.constexpr(float("-inf"))


class Options(NamedTuple):
    """Types and sizes known at compile time."""

    COMPUTE: tl.constexpr  # type of results
    BLOCK: tl.constexpr  # assignments at once
    ROWS: tl.constexpr  # symbols at once
    WIDTH: tl.constexpr  # lanes of a row of values, a power of two


class Listed(NamedTuple):
    """The list, and the sizes of a row of the batch."""

    assignments: object  # uint8 [n_assignments, n]
    n_assignments: object
    n: object
    k: object


@triton.jit
def symbol_tile(logits_ptr, listed, first, OPTIONS: tl.constexpr):
    """Logits [ROWS, WIDTH] of symbols from the first on, their offsets, and where there are any; -inf elsewhere."""
    symbol = first + tl.arange(0, OPTIONS.ROWS)[:, None]
    value = tl.arange(0, OPTIONS.WIDTH)[None, :]
    offsets = symbol * listed.k + value
    mask = (symbol < listed.n) & (value < listed.k)
    return load_float64(logits_ptr + offsets, mask, OPTIONS.COMPUTE), offsets, mask


@triton.jit
def exponentials(logits):
    """exp(logits [ROWS, WIDTH] - largest of the symbol), the largest [ROWS, 1] (0 if there is none), and their sum."""
    high = tl.max(logits, 1, keep_dims=True)
    high = tl.where(high > NEG_INF, high, 0.0)
    weights = exp2((logits - high) * LOG2_E)
    return weights, high, tl.sum(weights, 1, keep_dims=True)


@triton.jit
def check_row(logits_ptr, label_ptr, listed, OPTIONS: tl.constexpr):
    """The sum over symbols of log sum_v exp(logit), and the status as far as the input goes."""
    log_total = tl.zeros((1,), tl.float64)
    broken = tl.zeros((1,), tl.int32)
    for first in range(0, listed.n, OPTIONS.ROWS):
        logits, _, mask = symbol_tile(logits_ptr, listed, first, OPTIONS)
        _, high, total = exponentials(logits)
        exists = tl.max(mask.to(tl.int32), 1, keep_dims=True) > 0
        terms = tl.where(exists & (total >= 1.0), high + LN_2 * log2(tl.where(total >= 1.0, total, 1.0)), 0.0)
        log_total += tl.sum(terms)
        too_large = tl.max((mask & ~(logits < float("inf"))).to(tl.int32), 1, keep_dims=True)
        nothing = (exists & ~(tl.max(logits, 1, keep_dims=True) > NEG_INF)).to(tl.int32)
        broken += tl.sum(too_large + nothing)
    label = tl.load(label_ptr)
    code = tl.where(broken > 0, INVALID_LOGITS, POSSIBLE)
    code = tl.where((label < 0) | (label > 1), INVALID_LABEL, code)
    return tl.sum(log_total), tl.max(code)


@triton.jit
def scores(logits_ptr, listed, m, COMPUTE: tl.constexpr):
    """The sums of the logits of the assignments m, of any shape; -inf beyond the list."""
    inside = m < listed.n_assignments
    total = tl.zeros(m.shape, tl.float64)
    for i in range(listed.n):
        value = tl.load(listed.assignments + m * listed.n + i, mask=inside, other=0).to(tl.int32)
        total += load_float64(logits_ptr + (i * listed.k + tl.minimum(value, listed.k - 1)), inside, COMPUTE)
    return tl.where(inside, total, NEG_INF)


@triton.jit
def final_status(code, best_score):
    """The status of valid input is that of its best score."""
    return tl.where((code == POSSIBLE) & ~(best_score > NEG_INF), IMPOSSIBLE, code)


@triton.jit
def weights(score, high, WEIGHT: tl.constexpr):
    """exp(score - high), of any shape, computed as WEIGHT."""
    return exp2(((score - high) * LOG2_E).to(WEIGHT))


@triton.jit
def total_weight(logits_ptr, listed, OPTIONS: tl.constexpr, WEIGHT: tl.constexpr):
    """The largest score and the sum of exp(score - largest); the scores [BLOCK] of the last block."""
    score = tl.full((OPTIONS.BLOCK,), NEG_INF, tl.float64)
    high = tl.max(score)
    total = tl.sum(tl.zeros((1,), tl.float64))
    for start in range(0, listed.n_assignments, OPTIONS.BLOCK):
        m = start + tl.arange(0, OPTIONS.BLOCK)
        score = scores(logits_ptr, listed, m, OPTIONS.COMPUTE)
        before = high
        high = tl.maximum(before, tl.max(score))
        anchor = tl.where(high > NEG_INF, high, 0.0)
        total = total * exp2((before - anchor) * LOG2_E) + tl.sum(weights(score, anchor, WEIGHT).to(tl.float64))
    return high, total, score
