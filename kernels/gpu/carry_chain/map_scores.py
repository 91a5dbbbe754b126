"""Best scores with what they belong to, and logarithms of long products, for max-product over carries."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2

NEVER = tl.constexpr(float("-inf"))


class Best(NamedTuple):
    """Best scores, -inf where there is none, and the codes of what they belong to, int32."""

    score: Any
    code: Any


@triton.jit
def better(best, score, code):
    """What came first stays where scores are equal."""
    above = score > best.score
    return Best(tl.where(above, score, best.score), tl.where(above, code, best.code))


@triton.jit
def times(product, exponent, factor):
    """product * 2^exponent times a factor, with a product from 1 to 2: both float64 and int32 of any shape."""
    bits = (product * factor.to(tl.float64)).to(tl.int64, bitcast=True)
    exponent += (bits >> 52).to(tl.int32) - 1023
    return ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True), exponent


@triton.jit
def as_logarithm(product, exponent):
    """log(product * 2^exponent)."""
    return (exponent.to(tl.float64) + log2(product)) * LN_2


@triton.jit
def normaliser(logits, BASE: tl.constexpr):
    """The largest of BASE logits, and the sum of all exponentials over that of this one: NaN if they are no prior."""
    high = logits[0]
    for a in tl.static_range(1, BASE):
        high = tl.maximum(high, logits[a])
    total = exp2((logits[0] - high) * LOG2_E)
    for a in tl.static_range(1, BASE):
        total += exp2((logits[a] - high) * LOG2_E)
    return high, total
