"""Random numbers of a counter (index, t, row) and a key, the seed: Philox-4x32-10, the same on every back end."""

import triton
import triton.language as tl


@triton.jit
def _philox(seed, index, t, row):
    """Four uint32 for every element of t and row."""
    zero = tl.zeros(t.shape, tl.int32) + tl.zeros(row.shape, tl.int32)
    return tl.philox(
        seed, (zero + index).to(tl.uint32), (zero + t).to(tl.uint32), zero.to(tl.uint32) + row.to(tl.uint32),
        zero.to(tl.uint32) + (row >> 32).to(tl.uint32),
    )  # fmt: skip


@triton.jit
def positive_words(seed, index, t, row):
    """Four int32: the words without their lowest bit, to compare with thresholds."""
    r0, r1, r2, r3 = _philox(seed, index, t, row)
    return (r0 >> 1).to(tl.int32), (r1 >> 1).to(tl.int32), (r2 >> 1).to(tl.int32), (r3 >> 1).to(tl.int32)


@triton.jit
def _float32(word):
    return (word >> 9).to(tl.int32).to(tl.float32) * 1.1920928955078125e-07


@triton.jit
def uniforms_float32(seed, index, t, row):
    """Four float32 in [0, 1), the upper 23 bits of the words."""
    r0, r1, r2, r3 = _philox(seed, index, t, row)
    return _float32(r0), _float32(r1), _float32(r2), _float32(r3)


@triton.jit
def _float64(word):
    return (word.to(tl.float64) + 0.5) * 2.3283064365386963e-10


@triton.jit
def uniforms_float64(seed, index, t, row):
    """Four float64 in (0, 1)."""
    r0, r1, r2, r3 = _philox(seed, index, t, row)
    return _float64(r0), _float64(r1), _float64(r2), _float64(r3)
