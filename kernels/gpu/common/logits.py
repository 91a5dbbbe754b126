"""What large logits count as, in every kernel that loads logits: see emnesy_gpu.kernels.logits."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.logits import LARGEST_LOGIT

LARGEST = tl.constexpr(LARGEST_LOGIT)
LARGEST_BFLOAT16 = tl.constexpr(1000727379968.0)  # LARGEST rounded; float16 has no larger numbers than 65504


@triton.jit
def bounded(logits):
    """Finite logits beyond +-LARGEST_LOGIT as that, rounded to their type; infinities and NaN as they are.

    Numbers of 16 bits become float32: the interpreter does not compute with bfloat16.
    """
    SHORT: tl.constexpr = logits.dtype.primitive_bitwidth == 16
    x = logits.to(tl.float32) if SHORT else logits
    largest = tl.full(x.shape, LARGEST_BFLOAT16 if SHORT else LARGEST, x.dtype)
    inside = tl.minimum(tl.maximum(x, -largest), largest)
    return tl.where(tl.abs(x) < float("inf"), inside, x)


@triton.jit
def load_float64(pointers, mask, ROUNDED: tl.constexpr):
    """Logits as float64, rounded to a type before; -inf where masked."""
    return bounded(tl.load(pointers, mask=mask, other=float("-inf"))).to(ROUNDED).to(tl.float64)
