"""Philox-4x32-10, the counter-based generator behind every random draw of the package.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A draw depends
on (seed, global row, sample, position) alone, so no launch geometry, batch split or back end can change it.
"""

from __future__ import annotations

from torch import Tensor

MASK = 0xFFFFFFFF
"""The lowest 32 bits."""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
"""Constants of the paper for 4x32 words: the products whose halves make the next counter."""

WEYL = (0x9E3779B9, 0xBB67AE85)
"""Constants of the paper that are added to the key after each round: golden ratio and sqrt(3) - 1."""

ROUNDS = 10
"""Rounds that the paper recommends; fewer pass the statistical tests, with less margin."""


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four 32-bit words from a 128-bit counter and a 64-bit key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & MASK,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def uniforms_at(position: int, sample: int, row: int, seed: int) -> list[float]:
    """Four uniform numbers in (0, 1): (word + 1/2) / 2^32 with counter (position, sample, row)."""
    words = philox((position, sample, row & MASK, (row >> 32) & MASK), (seed & MASK, (seed >> 32) & MASK))
    return [(word + 0.5) * 2.0**-32 for word in words]


def philox_uniforms(n_positions: int, sample: int, row: int, seed: int) -> list[list[float]]:
    """``uniforms_at`` of each position."""
    return [uniforms_at(position, sample, row, seed) for position in range(n_positions)]


def seed_of_step(seed: int, step: int) -> int:
    """A seed in 0..2**63-1 for a step of training: 63 bits of the words with counter (step) and key ``seed``."""
    low, high, *_ = philox((step & MASK, step >> 32, 0, 0), (seed & MASK, seed >> 32))
    return (high << 32 | low) >> 1


def philox_words(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words for every counter, as int64.

    Products wrap around at 64 bits; their 64 bits are right, and the shifts are masked.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & MASK) ^ c1 ^ k0,
            product1 & MASK,
            ((product0 >> 32) & MASK) ^ c3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3
