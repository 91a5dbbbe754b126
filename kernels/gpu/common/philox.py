"""Draws random numbers of a counter and a key, the seed: Philox-4x32-10, the same on every back end."""

from typing import NamedTuple

import triton
import triton.language as tl

WORDS = tl.constexpr(4)
"""Words of a counter: symbol i of a sample takes word i % WORDS of block i // WORDS."""


class Counter(NamedTuple):
    """What random words belong to, but for the block; tensors that broadcast to the shape of the words."""

    seed: object  # int64
    t: object  # int32: the sample
    row: object  # int64: the row of the batch


@triton.jit
def _philox(counter, block):
    """The WORDS words of a block, uint32, for every element of t and row."""
    t = counter.t
    row = counter.row
    zero = tl.zeros(t.shape, tl.int32) + tl.zeros(row.shape, tl.int32)
    return tl.philox(
        counter.seed, (zero + block).to(tl.uint32), (zero + t).to(tl.uint32), zero.to(tl.uint32) + row.to(tl.uint32),
        zero.to(tl.uint32) + (row >> 32).to(tl.uint32),
    )  # fmt: skip


@triton.jit
def positive_words(counter, block):
    """The words without their lowest bit, int32, to compare with thresholds."""
    r0, r1, r2, r3 = _philox(counter, block)
    return (r0 >> 1).to(tl.int32), (r1 >> 1).to(tl.int32), (r2 >> 1).to(tl.int32), (r3 >> 1).to(tl.int32)


@triton.jit
def is_above(word, thresholds_ptr, v):
    """Where the value that a positive word draws for a symbol is above v; thresholds of the symbol [K - 1]."""
    return word > tl.load(thresholds_ptr + v)


@triton.jit
def upper_bits(counter, i):
    """The upper 23 bits of the word of symbol i, int64."""
    r0, r1, r2, r3 = _philox(counter, i // WORDS)
    j = i - i // WORDS * WORDS
    word = tl.where(j < 2, tl.where(j == 0, r0, r1), tl.where(j == 2, r2, r3))
    return (word >> 9).to(tl.int64)


@triton.jit
def _float32(word):
    """The upper 23 bits of uint32 words as a number in [0, 1)."""
    return (word >> 9).to(tl.int32).to(tl.float32) * 1.1920928955078125e-07


@triton.jit
def uniforms_float32(counter, block):
    """Float32 in [0, 1), one for each word."""
    r0, r1, r2, r3 = _philox(counter, block)
    return _float32(r0), _float32(r1), _float32(r2), _float32(r3)


@triton.jit
def _float64(word):
    """Uint32 words as numbers in (0, 1)."""
    return (word.to(tl.float64) + 0.5) * 2.3283064365386963e-10


@triton.jit
def uniforms_float64(counter, block):
    """Float64 in (0, 1), one for each word."""
    r0, r1, r2, r3 = _philox(counter, block)
    return _float64(r0), _float64(r1), _float64(r2), _float64(r3)
