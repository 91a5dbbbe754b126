"""Arranges tuples of tensors, which kernels use as arrays in registers."""

import triton
import triton.language as tl


@triton.jit
def interleaved(evens, odds, COUNT: tl.constexpr):
    """(evens[0], odds[0], evens[1], odds[1], ...) of COUNT elements each."""
    both = ()
    for i in tl.static_range(COUNT):
        both = both + (evens[i], odds[i])
    return both
