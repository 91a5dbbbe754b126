"""Philox-4x32-10 in Numba, bit for bit ``emnesy_gpu.philox``."""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function

U64 = np.uint64
MULTIPLIER_0, MULTIPLIER_1 = U64(0xD2511F53), U64(0xCD9E8D57)
WEYL_0, WEYL_1 = U64(0x9E3779B9), U64(0xBB67AE85)
MASK, WORD = U64(0xFFFFFFFF), U64(32)


@lane_function
def philox(c0, c1, c2, c3, key):
    """Four 32-bit words, as uint64, from the words of a counter and a 64-bit key (uint64 all)."""
    k0, k1 = key & MASK, key >> WORD
    for _ in range(10):
        product_0, product_1 = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> WORD) ^ c1 ^ k0,
            product_1 & MASK,
            (product_0 >> WORD) ^ c3 ^ k1,
            product_0 & MASK,
        )
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return c0, c1, c2, c3


@lane_function
def philox_words(position, sample, row, seed):
    """Four 32-bit words, as uint64, for a symbol of a sample of a row: counter (position, sample, row), key seed."""
    row = U64(row)
    return philox(U64(position), U64(sample), row & MASK, row >> WORD, U64(seed))


@lane_function
def philox_uniforms(position, sample, row, seed):
    """Four float64 in (0, 1): (word + 1/2) / 2^32, with the words of ``philox_words``."""
    words = philox_words(position, sample, row, seed)
    return (
        (words[0] + 0.5) * 2.0**-32,
        (words[1] + 0.5) * 2.0**-32,
        (words[2] + 0.5) * 2.0**-32,
        (words[3] + 0.5) * 2.0**-32,
    )
