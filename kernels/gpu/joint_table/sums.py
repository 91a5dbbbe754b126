"""Sums the weights of the assignments that have the label, by left side and by right side.

The weight of an assignment is exp(score) = weight of the left side * weight of the right side, each at most 1: one
multiplication. A sum above LEAST_TOTAL of the type has lost nothing to weights that are too small for it. Where the sum
is smaller, weights are exp(score - largest score of the label) instead.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, exp2
from emnesy_gpu.kernels.gpu.joint_table.sides import NEG_INF, has_label

LEAST_TOTAL = tl.constexpr(2.0**-60)
LEAST_TOTAL_FLOAT64 = tl.constexpr(2.0**-900)


class Weights(NamedTuple):
    """How assignments are weighted: by products of the weights of their sides, or by their scores."""

    sides: object  # [left + right] of the type of the sums
    scores: object  # float64 [left + right]
    high: object  # float64, the largest score of the label
    by_score: object  # int32, 1 where scores are taken


@triton.jit
def store_weights(table, scores_ptr, sides_ptr, OPTIONS: tl.constexpr):
    """Writes exp(score) of every side, [left + right]; a weight that is too small for the type is 0."""
    for first in range(0, table.left + table.right, OPTIONS.SIDES):
        m = first + tl.arange(0, OPTIONS.SIDES)
        inside = m < table.left + table.right
        weight = exp2(tl.load(scores_ptr + m, mask=inside, other=0.0) * LOG2_E)
        tl.store(sides_ptr + m, weight.to(sides_ptr.dtype.element_ty), mask=inside)
    tl.debug_barrier()


@triton.jit
def weights_at(table, weighting, a, b, code, OPTIONS: tl.constexpr):
    """The weights of the assignments of left sides a and right sides b, which broadcast; 0 for another label."""
    chosen = has_label(table, a, b, code, OPTIONS)
    SUMS: tl.constexpr = weighting.sides.dtype.element_ty
    if weighting.by_score == 1:
        score = tl.load(weighting.scores + a, mask=a < table.left, other=0.0)
        score += tl.load(weighting.scores + table.left + b, mask=b < table.right, other=0.0)
        weight = exp2((tl.minimum(score - weighting.high, 0.0) * LOG2_E).to(SUMS))
    else:
        weight = tl.load(weighting.sides + a, mask=a < table.left, other=0.0)
        weight = weight * tl.load(weighting.sides + table.left + b, mask=b < table.right, other=0.0)
    return tl.where(chosen, weight, 0.0)


@triton.jit
def largest_score(table, scores_ptr, code, OPTIONS: tl.constexpr):
    """The largest score of the label, -inf without one, and the first assignment that has it."""
    best = tl.full((OPTIONS.OTHERS, OPTIONS.LANES), NEG_INF, tl.float64)
    index = tl.zeros((OPTIONS.OTHERS, OPTIONS.LANES), tl.int32)
    for first in range(0, table.left, OPTIONS.OTHERS):
        a = first + tl.arange(0, OPTIONS.OTHERS)[:, None]
        left = tl.load(scores_ptr + a, mask=a < table.left, other=0.0)
        for start in range(0, table.right, OPTIONS.LANES):
            b = start + tl.arange(0, OPTIONS.LANES)[None, :]
            score = left + tl.load(scores_ptr + table.left + b, mask=b < table.right, other=0.0)
            better = has_label(table, a, b, code, OPTIONS) & (score > best)
            best = tl.where(better, score, best)
            index = tl.where(better, a * table.right + b, index)
    high = tl.max(tl.max(best, 1))
    return high, tl.min(tl.min(tl.where(best == high, index, table.left * table.right - 1), 1))


@triton.jit
def store_left_sums(table, weighting, code, sums_ptr, OPTIONS: tl.constexpr):
    """Writes the sum of weights of every left side [left]; returns the total, float64."""
    total = tl.sum(tl.zeros((1,), tl.float64))
    for first in range(0, table.left, OPTIONS.OTHERS):
        a = first + tl.arange(0, OPTIONS.OTHERS)[:, None]
        tile = tl.zeros((OPTIONS.OTHERS, OPTIONS.LANES), sums_ptr.dtype.element_ty)
        for start in range(0, table.right, OPTIONS.LANES):
            tile += weights_at(table, weighting, a, start + tl.arange(0, OPTIONS.LANES)[None, :], code, OPTIONS)
        sums = tl.sum(tile, 1)
        a = first + tl.arange(0, OPTIONS.OTHERS)
        tl.store(sums_ptr + a, sums, mask=a < table.left)
        total += tl.sum(sums.to(tl.float64))
    return total


@triton.jit
def store_right_sums(table, weighting, code, sums_ptr, OPTIONS: tl.constexpr):
    """Writes the sum of weights of every right side [right]."""
    for start in range(0, table.right, OPTIONS.LANES):
        b = start + tl.arange(0, OPTIONS.LANES)
        tile = tl.zeros((OPTIONS.OTHERS, OPTIONS.LANES), sums_ptr.dtype.element_ty)
        for first in range(0, table.left, OPTIONS.OTHERS):
            tile += weights_at(
                table, weighting, first + tl.arange(0, OPTIONS.OTHERS)[:, None], b[None, :], code, OPTIONS
            )
        tl.store(sums_ptr + b, tl.sum(tile, 0), mask=b < table.right)


@triton.jit
def weighted_left_sums(table, scores_ptr, sides_ptr, sums_ptr, code, OPTIONS: tl.constexpr):
    """Chooses the weights, and writes the sum of every left side; returns the choice and the total, 0 without a label.

    The log of the total is relative to the largest score, `high`, which is 0 for products.
    """
    LEAST: tl.constexpr = LEAST_TOTAL_FLOAT64 if sums_ptr.dtype.element_ty == tl.float64 else LEAST_TOTAL
    store_weights(table, scores_ptr, sides_ptr, OPTIONS)
    high = tl.sum(tl.zeros((1,), tl.float64))
    by_score = tl.sum(tl.zeros((1,), tl.int32))
    total = store_left_sums(table, Weights(sides_ptr, scores_ptr, high, by_score), code, sums_ptr, OPTIONS)
    if total < LEAST:
        high, _ = largest_score(table, scores_ptr, code, OPTIONS)
        by_score += 1
        if high > NEG_INF:
            tl.debug_barrier()
            total = store_left_sums(table, Weights(sides_ptr, scores_ptr, high, by_score), code, sums_ptr, OPTIONS)
    return Weights(sides_ptr, scores_ptr, high, by_score), total
