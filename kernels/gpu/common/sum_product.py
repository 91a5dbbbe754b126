"""Computes sum-product or max-product, by the constants LOG and MAX, on float32 probabilities or on their float64 log2.

LOG 0: probabilities. LOG 1: log2, as precise as float32 probabilities are. What needs float64 are large logarithms, not
the exponentials of their differences. LOG 2: log2, exact to float64. The zero of logarithms is finite: differences of
two zeros must not be NaN. What is not between LINEAR_FLOOR and LINEAR_CEILING, or not above LEAST_LOG2, counts as lost:
of probabilities the digits have drowned, a logarithm stands for zero. Tensors may have any shape where none is named.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LEAST_LOG2, LOG2_E, add, exp2, log2, log2_1p
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as LOG_ZERO

# What float32 drops, 1e-38, is 1e-26 of a permanent at the floor, and 1e-14 of a product that a message then enters.
LINEAR_FLOOR = tl.constexpr(1.0e-12)
LINEAR_CEILING = tl.constexpr(1.0e35)


@triton.jit
def zero(LOG: tl.constexpr):
    """The compile-time number that stands for 0."""
    return LOG_ZERO if LOG else 0.0


@triton.jit
def one(LOG: tl.constexpr):
    """The compile-time number that stands for 1."""
    return 0.0 if LOG else 1.0


@triton.jit
def lost(x, LOG: tl.constexpr):
    """Where x is out of range or NaN."""
    return ~(x > LEAST_LOG2) if LOG else ~((x >= LINEAR_FLOOR) & (x <= LINEAR_CEILING))


@triton.jit
def times(x, y, LOG: tl.constexpr):
    """x y."""
    return x + y if LOG else x * y


@triton.jit
def over(x, y, LOG: tl.constexpr):
    """x / y; x unchanged where y is zero."""
    if LOG:
        return tl.where(y > LEAST_LOG2, x - y, x)
    else:
        return x / tl.where(y > 0.0, y, 1.0)


@triton.jit
def _exp2(x, LOG: tl.constexpr):
    """2 ** x for float64 logarithms, as precise as LOG asks for."""
    return exp2(x) if LOG == 2 else tl.exp2(x.to(tl.float32)).to(x.dtype)


@triton.jit
def _log2(x, LOG: tl.constexpr):
    """The float64 logarithm of x, as precise as LOG asks for."""
    return log2(x) if LOG == 2 else log2(x.to(tl.float32)).to(x.dtype)


@triton.jit
def _add(x, y, LOG: tl.constexpr):
    """The logarithm of the sum of what x and y stand for."""
    if LOG == 2:
        return add(x, y)
    else:
        high = tl.maximum(x, y)
        return high + log2_1p(tl.exp2((tl.minimum(x, y) - high).to(tl.float32))).to(x.dtype)


@triton.jit
def plus_product(total, x, y, LOG: tl.constexpr, MAX: tl.constexpr):
    """total + x y."""
    if MAX:
        return tl.maximum(total, x + y if LOG else x * y)
    elif LOG:
        return _add(total, x + y, LOG)
    else:
        return total + x * y


@triton.jit
def total(x, AXIS: tl.constexpr, LOG: tl.constexpr, MAX: tl.constexpr):
    """The sum (or maximum) over one axis, which stays with size 1."""
    if MAX:
        return tl.max(x, AXIS, keep_dims=True)
    elif LOG:
        high = tl.max(x, AXIS, keep_dims=True)
        return high + _log2(tl.sum(_exp2(x - high, LOG), AXIS, keep_dims=True), LOG)
    else:
        return tl.sum(x, AXIS, keep_dims=True)


@triton.jit
def log2_of(x, LOG: tl.constexpr):
    """log2 in float64, whatever x stands for; finite for 0."""
    return x if LOG else log2(x).to(tl.float64)


@triton.jit
def probability(x, LOG: tl.constexpr):
    """The number that x stands for."""
    return _exp2(x, LOG) if LOG else x


@triton.jit
def mixture(new, old, damping, LOG: tl.constexpr):
    """(1 - damping) * new + damping * old."""
    if LOG:
        high = tl.maximum(new, old)
        mixed = (1.0 - damping) * _exp2(new - high, LOG) + damping * _exp2(old - high, LOG)
        return tl.where(damping > 0.0, tl.maximum(high + _log2(mixed, LOG), LOG_ZERO), new)
    else:
        return (1.0 - damping) * new + damping * old


@triton.jit
def constant(n, like, LOG: tl.constexpr):
    """Positive integers as numbers of the kind of `like`."""
    return _log2(n.to(like.dtype), LOG) if LOG else n.to(like.dtype)


@triton.jit
def softmax(logits, AXIS: tl.constexpr, LOG: tl.constexpr):
    """Over one axis, which stays with size 1 in the sums; these are NaN where logits are no prior."""
    relative = (logits - tl.max(logits, AXIS, keep_dims=True)) * LOG2_E
    weights = _exp2(relative, LOG) if LOG else exp2(relative)
    sums = tl.sum(weights, AXIS, keep_dims=True)
    return tl.maximum(relative - _log2(sums, LOG), LOG_ZERO) if LOG else weights / sums, sums


@triton.jit
def complement(q, LOG: tl.constexpr, MAX: tl.constexpr):
    """sum_{u != v} q(u) (or the maximum) for every v of rows [R, P] of sum 1.

    1 - q(v) loses no digits but at the largest q, where the others are summed.
    """
    value = tl.arange(0, q.shape[1])[None, :]
    top = value == tl.argmax(q, 1, keep_dims=True)
    others = total(tl.where(top, zero(LOG), q), 1, LOG, MAX)
    if MAX:
        return tl.where(top, others, tl.max(q, 1, keep_dims=True))
    elif LOG:
        return tl.where(top, others, _log2(1.0 - _exp2(tl.where(top, LOG_ZERO, q), LOG), LOG))
    else:
        return tl.where(top, others, 1.0 - q)
