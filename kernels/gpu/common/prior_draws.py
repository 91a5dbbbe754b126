"""Draws values of symbols from their priors: the first value whose running sum of weights passes a share of all."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, exp2
from emnesy_gpu.kernels.gpu.common.logits import load_float64


@triton.jit
def draw_prior(logits_ptr, uniform, k, ROUNDED: tl.constexpr):
    """A value of one symbol, whose logits [k] are given, for every uniform number of [SAMPLES], from its prior."""
    always = tl.full(uniform.shape, True, tl.int1)
    offset = tl.zeros(uniform.shape, tl.int32)
    high = tl.full(uniform.shape, float("-inf"), tl.float64)
    for v in range(k):
        high = tl.maximum(high, load_float64(logits_ptr + (offset + v), always, ROUNDED))
    total = tl.zeros(uniform.shape, tl.float64)
    for v in range(k):
        total += exp2((load_float64(logits_ptr + (offset + v), always, ROUNDED) - high) * LOG2_E)
    running = tl.zeros(uniform.shape, tl.float64)
    count = tl.zeros(uniform.shape, tl.int32)
    for v in range(k):
        running += exp2((load_float64(logits_ptr + (offset + v), always, ROUNDED) - high) * LOG2_E)
        count += (running <= uniform * total).to(tl.int32)
    return tl.minimum(count, k - 1)
