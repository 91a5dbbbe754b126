"""Computes posterior and EM gradient of three or four addends with probabilities, and says which rows that serves.

f(x) = P(the digits of a position sum to x), and T[c, c'] = f(digit + base c' - c) takes messages over carries from
position to position. With Q(x) = sum of alpha(c) beta(c') over c, c' with x = digit + base c' - c, the digit d_j has the
posterior p_j(v) sum_u P(d_1 + ... + d_{j-1} = u) G_j(u + v), where G_k = Q and G_{j-1} sums d_j out of G_j.

A message is scaled, to the sum 1 (alpha) or the largest entry 1 (beta). What underflow has taken from its entries is
bounded by `missed`, which the same products take along.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit
from emnesy_gpu.kernels.gpu.carry_chain.linear_sums import at, carried_on, places, prefix_sums, sliding_products
from emnesy_gpu.kernels.gpu.common.log2_semiring import log2
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL


class Message(NamedTuple):
    """Weights of the carries between two positions, [S, SUMS] with ADDENDS entries."""

    weights: object
    missed: object  # what they lack, at most


@triton.constexpr_function
def underflow(compute):
    """More than the products of a position lose together: 2^15 times the smallest normal number."""
    return {tl.float32: 2.0**-111, tl.float64: 2.0**-1007}[compute]


@triton.constexpr_function
def tolerance(compute):
    """The share of the evidence that may be missing: half a last bit."""
    return {tl.float32: 2.0**-24, tl.float64: 2.0**-53}[compute]


@triton.jit
def _carried(message, sums, digit, base, FORWARD: tl.constexpr, OPTIONS: tl.constexpr):
    """The message on the other side of a position, not scaled yet."""
    weights = carried_on(message.weights, sums, digit, base, FORWARD, OPTIONS.ADDENDS)
    missed = carried_on(message.missed, sums, digit, base, FORWARD, OPTIONS.ADDENDS)
    return Message(weights, missed + underflow(OPTIONS.COMPUTE))


@triton.jit
def _scaled(message, by):
    return Message(message.weights * by, message.missed * by)


@triton.jit
def _stash(out_ptr, samples, OPTIONS: tl.constexpr):
    """Where the message into a position is kept in the output, and which lanes keep it."""
    lane = samples.partial_sum
    return out_ptr + lane * samples.step, samples.present & (lane < OPTIONS.ADDENDS)


@triton.jit
def linear_forward(samples, out_ptr, top, OPTIONS: tl.constexpr):
    """Leaves the message into every position in the output, one carry an addend.

    Returns the log2 evidence of the carry top [S, 1] and whether nothing that counts is missing from it.
    """
    COMPUTE: tl.constexpr = OPTIONS.COMPUTE
    base = samples.base
    nothing = tl.zeros((samples.present.shape[0], OPTIONS.SUMS), COMPUTE)
    message = Message(tl.where(samples.partial_sum == 0, 1.0, nothing), nothing)
    scale = tl.zeros(samples.present.shape, COMPUTE)
    valid = tl.full(samples.present.shape, True, tl.int1)
    for back in range(samples.n_digits):
        i = samples.n_digits - 1 - back
        stash, kept = _stash(out_ptr + i * base, samples, OPTIONS)
        tl.store(stash, message.weights, mask=kept)
        digit, code = checked_digit(samples.label + i, samples.present, base)
        valid &= code != INVALID_LABEL
        digits, sums = prefix_sums(samples.logits + i * base, samples, OPTIONS)
        after = _carried(message, sums[OPTIONS.ADDENDS - 1], digit, base, True, OPTIONS)
        total = tl.sum(after.weights, 1, keep_dims=True)
        message = _scaled(after, 1.0 / total)
        scale += log2(total)
    chance = tl.max(tl.where(samples.partial_sum == top, message.weights, 0.0), 1, keep_dims=True)
    missed = tl.max(tl.where(samples.partial_sum == top, message.missed, 0.0), 1, keep_dims=True)
    served = valid & (top < OPTIONS.ADDENDS) & (chance > 0.0) & (missed <= tolerance(COMPUTE) * chance)
    return scale + log2(chance), served


@triton.jit
def _pair_weights(alpha, beta, digit, samples, OPTIONS: tl.constexpr):
    """Q [S, SUMS]."""
    target = tl.zeros_like(alpha)
    for c in tl.static_range(OPTIONS.ADDENDS):
        target = tl.where(samples.partial_sum == digit + samples.base * c, at(beta, c), target)
    return sliding_products(target, alpha, OPTIONS.ADDENDS, 1)


@triton.jit
def _write_position(out_ptr, tables, weights, gradient_scale, samples, OPTIONS: tl.constexpr, GRADIENT: tl.constexpr):
    """Stores the results of a position from its tables and Q; returns the smallest evidence that was divided by."""
    digits, sums = tables
    least = tl.full(samples.present.shape, float("inf"), OPTIONS.COMPUTE)
    for j in tl.static_range(OPTIONS.ADDENDS - 1, -1, -1):
        if j > 0:
            shares = digits[j] * sliding_products(weights, sums[j - 1], 1 + j * (samples.base - 1), 1)
            weights = sliding_products(weights, digits[j], samples.base, 1)
        else:
            shares = digits[0] * weights
        total = tl.sum(shares, 1, keep_dims=True)
        least = tl.where(total >= least, least, total)  # NaN stays
        result = shares * (1.0 / total)
        if GRADIENT:
            result = (digits[j] - result) * gradient_scale
        stored = samples.present & (samples.partial_sum < samples.base)
        tl.store(out_ptr + j * samples.step + samples.partial_sum, result, mask=stored)
    return least


@triton.jit
def linear_backward(samples, out_ptr, top, gradient_scale, OPTIONS: tl.constexpr, GRADIENT: tl.constexpr):
    """Overwrites the messages in the output with the results.

    Returns whether nothing that counts is missing from them [S, 1].
    """
    COMPUTE: tl.constexpr = OPTIONS.COMPUTE
    base = samples.base
    nothing = tl.zeros((samples.present.shape[0], OPTIONS.SUMS), COMPUTE)
    beta = Message(tl.where(samples.partial_sum == top, 1.0, nothing), nothing)
    served = tl.full(samples.present.shape, True, tl.int1)
    for i in range(samples.n_digits):
        digit, code = checked_digit(samples.label + i, samples.present, base)
        # The messages were stored by other threads, and are about to be overwritten.
        tl.debug_barrier()
        stash, kept = _stash(out_ptr + i * base, samples, OPTIONS)
        alpha = tl.load(stash, mask=kept, other=0.0)
        tl.debug_barrier()
        tables = prefix_sums(samples.logits + i * base, samples, OPTIONS)
        weights = _pair_weights(alpha, beta.weights, digit, samples, OPTIONS)
        total = _write_position(out_ptr + i * base, tables, weights, gradient_scale, samples, OPTIONS, GRADIENT)
        served &= total >= underflow(COMPUTE) / tolerance(COMPUTE)
        before = _carried(beta, tables[1][OPTIONS.ADDENDS - 1], digit, base, False, OPTIONS)
        beta = _scaled(before, 1.0 / tl.max(before.weights, 1, keep_dims=True))
    lane = places(beta.weights)
    chance = tl.max(tl.where(lane == 0, beta.weights, 0.0), 1, keep_dims=True)
    missed = tl.max(tl.where(lane == 0, beta.missed, 0.0), 1, keep_dims=True)
    return served & (missed <= tolerance(COMPUTE) * chance)
