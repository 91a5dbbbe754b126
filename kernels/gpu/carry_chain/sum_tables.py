"""Tabulates the partial sums of a position's addends (the carry counts as the first), one sum a lane, [S, SUMS].

F_j(u) = sum_v p_j(v) F_{j-1}(u - v), in log2. SUMS is a power of two of at least n_addends * base, so that every sum of
digits and carry has its lane.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, ZERO, add, exp2
from emnesy_gpu.kernels.gpu.common.logits import bounded


class Options(NamedTuple):
    """Sizes and types known at compile time."""

    ADDENDS: tl.constexpr
    SUMS: tl.constexpr  # lanes of a table
    WIDTH: tl.constexpr  # lanes of a row of values, a power of two
    COMPUTE: tl.constexpr


class Samples(NamedTuple):
    """S samples of the batch; a pointer is a tensor [S, 1]."""

    logits: object  # [ADDENDS, n_digits, base]
    label: object  # [n_digits], without the leading digits
    present: object  # bool [S, 1]: false past the end of the batch
    n_digits: object
    base: object
    step: object  # n_digits * base: from the logits of one addend to those of the next
    partial_sum: object  # int32 [1, SUMS]: the partial sum of every lane of a table
    value: object  # int32 [1, WIDTH]: the digit of every lane of a row


@triton.jit
def shifted(table, by, EMPTY: tl.constexpr):
    """table[u + by], EMPTY outside; table [S, SUMS], by a scalar."""
    SUMS: tl.constexpr = table.shape[1]
    target = tl.broadcast_to(tl.arange(0, SUMS)[None, :], table.shape) + by
    inside = (target >= 0) & (target < SUMS)
    return tl.where(inside, tl.gather(table, tl.where(inside, target, 0), 1), EMPTY)


@triton.jit
def entry(table, index):
    """table[index] for one index [S, 1] a sample, -inf outside."""
    at = tl.arange(0, table.shape[1])[None, :] == index
    return tl.max(tl.where(at, table, float("-inf")), 1, keep_dims=True)


@triton.jit
def softmax_row(pointers, present, COMPUTE: tl.constexpr, base, WIDTH: tl.constexpr):
    """Log2 probabilities [S, WIDTH] relative to the largest, that largest logit and the sum [S, 1] (NaN if invalid)."""
    value = tl.arange(0, WIDTH)[None, :]
    logits = bounded(tl.load(pointers + value, mask=present & (value < base), other=float("-inf"))).to(COMPUTE)
    logits = tl.where(present | (value >= base), logits, 0.0)
    high = tl.max(logits, 1, keep_dims=True)
    relative = (logits - high) * LOG2_E
    return relative, high, tl.sum(exp2(relative), 1, keep_dims=True)


@triton.jit
def relative_logit(pointers, high, present, COMPUTE: tl.constexpr):
    """One log2 probability [S, 1] relative to the largest, a finite zero at least."""
    logit = bounded(tl.load(pointers, mask=present, other=0.0)).to(COMPUTE)
    return tl.maximum((logit - high) * LOG2_E, ZERO)


@triton.jit
def append_digit(table, pointers, high, present, COMPUTE: tl.constexpr, base):
    """The table [S, SUMS] convolved with the probabilities of the digit whose logits start at pointers [S, 1]."""
    total = tl.full(table.shape, ZERO, COMPUTE)
    for v in range(base):
        total = add(total, shifted(table, -v, ZERO) + relative_logit(pointers + v, high, present, COMPUTE))
    return total
