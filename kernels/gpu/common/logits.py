"""What large logits count as, in every kernel that loads logits: see emnesy_gpu.kernels.logits."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.logits import LARGEST_LOGIT

LARGEST = tl.constexpr(LARGEST_LOGIT)


@triton.jit
def bounded(logits):
    """Finite logits beyond +-LARGEST_LOGIT as that, rounded to their type; infinities and NaN as they are."""
    largest = tl.full(logits.shape, LARGEST, logits.dtype)
    inside = tl.minimum(tl.maximum(logits, -largest), largest)
    return tl.where(tl.abs(logits) < float("inf"), inside, logits)
