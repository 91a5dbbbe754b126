"""Tabulates sums of digits as probabilities, one sum a lane, tiles [S, SUMS]; messages over carries likewise.

SUMS is a power of two of at least n_addends * base. A rotation therefore carries nothing but zeros round the end of a
table, or numbers to sums that no digits have, which count with weight zero.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.sum_tables import softmax_row
from emnesy_gpu.kernels.gpu.common.log2_semiring import exp2


@triton.jit
def places(table):
    """The lane of every entry of a tile [S, SUMS]."""
    return tl.broadcast_to(tl.arange(0, table.shape[1])[None, :], table.shape)


@triton.jit
def at(table, index):
    """table[index] in all lanes, for a scalar below SUMS."""
    return tl.gather(table, tl.full(table.shape, index, tl.int32), 1)


@triton.jit
def sliding_products(table, weights, n, STEP: tl.constexpr):
    """sum over v < n of weights[v] table[u + STEP v] for every lane u."""
    turn = (places(table) + STEP) & (table.shape[1] - 1)
    total = tl.zeros_like(table)
    for v in range(n):
        total = tl.fma(at(weights, v), table, total)
        table = tl.gather(table, turn, 1)
    return total


@triton.jit
def digit_probabilities(pointers, samples, OPTIONS: tl.constexpr):
    """The softmax of the logits from pointers [S, 1] on; NaN if it does not exist, 0 beyond the base."""
    relative, high, total = softmax_row(pointers, samples.present, OPTIONS.COMPUTE, samples.base, OPTIONS.SUMS)
    return exp2(relative) * (1.0 / total)


@triton.jit
def prefix_sums(logits_ptr, samples, OPTIONS: tl.constexpr):
    """Probabilities of every digit of a position, and of d_1, d_1 + d_2, ..., d_1 + ... + d_k."""
    digit = digit_probabilities(logits_ptr, samples, OPTIONS)
    digits = (digit,)
    sums = (digit,)
    for j in tl.static_range(1, OPTIONS.ADDENDS):
        digit = digit_probabilities(logits_ptr + j * samples.step, samples, OPTIONS)
        digits = digits + (digit,)
        sums = sums + (sliding_products(sums[j - 1], digit, samples.base, -1),)
    return digits, sums


@triton.jit
def carried_on(message, sums, digit, base, FORWARD: tl.constexpr, ADDENDS: tl.constexpr):
    """The message [S, SUMS] over carries on the other side of a position: a product with sums[digit + base c' - c]."""
    lane = places(message)
    after = tl.zeros_like(message)
    for c in tl.static_range(ADDENDS):
        index = digit + base * lane - c if FORWARD else digit + base * c - lane
        inside = (lane < ADDENDS) & (index >= 0) & (index < message.shape[1])
        chance = tl.gather(sums, tl.where(inside, index, 0), 1)
        after = tl.fma(at(message, c), tl.where(inside, chance, 0.0), after)
    return after
