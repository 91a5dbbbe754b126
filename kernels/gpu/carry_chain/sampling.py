"""Draws exact samples of the digits given the label: forward filter, backward sample, float64, two or more addends.

This is for the rows that row_sampling.py does not serve with weights: where underflow would count, and where the label is
impossible or the input invalid. Tables and messages are in log2, relative to their largest logits. A lane draws for one
sample, from its own Philox words.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, final_status
from emnesy_gpu.kernels.gpu.carry_chain.sum_tables import (
    Samples,
    append_digit,
    entry,
    relative_logit,
    softmax_row,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import LEAST_LOG2, ZERO, exp2, log2
from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE


class Row(NamedTuple):
    """Pointers of a row of the batch."""

    logits: object  # [ADDENDS, n_digits, BASE]
    label: object  # [n_digits], without the leading digits
    digits: object  # int64 [ADDENDS, n_digits]
    n_digits: object


class Draws(NamedTuple):
    """What is drawn for a row of the batch."""

    seed: object
    row: object  # int64: its number among all
    first: object  # number of the first sample
    n_samples: object
    step: object  # int64: from the digits of a sample to those of the next


class Lanes(NamedTuple):
    """A tile of samples, one in each lane."""

    out: object  # pointers [1, LANES] to int64 [ADDENDS, n_digits]
    stored: object  # bool [1, LANES]: false past the last sample
    counter: Counter  # of the random words


@triton.jit
def lanes_of(row, draws, tile, LANES: tl.constexpr):
    """The samples from tile * LANES on."""
    t = tile * LANES + tl.arange(0, LANES)[None, :]
    return Lanes(
        row.digits + t.to(tl.int64) * draws.step, t < draws.n_samples, Counter(draws.seed, draws.first + t, draws.row)
    )


@triton.jit
def _suffix_tables(pointers, samples, OPTIONS: tl.constexpr):
    """log2 pmf of d_j + ... + d_k for j = 1 .. k, [1, SUMS] each; largest logits; NaN if a softmax does not exist."""
    always = tl.full((1, 1), True, tl.int1)
    table = tl.where(tl.arange(0, OPTIONS.SUMS)[None, :] == 0, 0.0, ZERO).to(tl.float64)
    tables = ()
    highs = ()
    totals = tl.zeros((1, 1), tl.float64)
    for j in tl.static_range(OPTIONS.ADDENDS - 1, -1, -1):
        own = pointers + j * samples.step
        relative, high, total = softmax_row(own, always, tl.float64, samples.base, OPTIONS.WIDTH)
        table = append_digit(table, own, high, always, tl.float64, samples.base)
        tables = (table,) + tables
        highs = (high,) + highs
        totals += total
    return tables, highs, totals


@triton.jit
def _next_message(alpha, table, digit, samples, OPTIONS: tl.constexpr):
    """log2 weights of every carry out of a position, [1, SUMS], from those into it and the table f_1."""
    after = tl.full((1, OPTIONS.SUMS), ZERO, tl.float64)
    # A loop, as all carries out at once would spill registers.
    for out in range(OPTIONS.ADDENDS):
        terms = ()
        high = tl.full((1, 1), ZERO, tl.float64)
        for c in tl.static_range(OPTIONS.ADDENDS):
            term = tl.maximum(entry(alpha, c) + entry(table, digit + samples.base * out - c), ZERO)
            high = tl.maximum(high, term)
            terms = terms + (term,)
        total = tl.zeros((1, 1), tl.float64)
        for c in tl.static_range(OPTIONS.ADDENDS):
            total += exp2(terms[c] - high)
        after = tl.where(samples.partial_sum == out, high + log2(total), after)
    return after


@triton.jit
def _forward(samples, stash_ptr, OPTIONS: tl.constexpr):
    """Leaves the message into every position in the output of the first sample, as bits.

    Returns the last message [1, SUMS], its scale and the status [1, 1].
    """
    alpha = tl.where(samples.partial_sum == 0, 0.0, ZERO).to(tl.float64)
    always = tl.full((1, 1), True, tl.int1)
    scale = tl.zeros((1, 1), tl.float64)
    code = tl.full((1, 1), POSSIBLE, tl.int32)
    for back in range(samples.n_digits):
        i = samples.n_digits - 1 - back
        for c in tl.static_range(OPTIONS.ADDENDS):
            tl.store(stash_ptr + c * samples.n_digits + i, entry(alpha, c).to(tl.int64, bitcast=True))
        digit, digit_code = checked_digit(samples.label + i, always, samples.base)
        tables, highs, totals = _suffix_tables(samples.logits + i * samples.base, samples, OPTIONS)
        code = tl.maximum(code, tl.maximum(digit_code, tl.where(totals == totals, POSSIBLE, INVALID_LOGITS)))
        after = _next_message(alpha, tables[0], digit, samples, OPTIONS)
        high = tl.max(after, 1, keep_dims=True)
        alpha = after - high
        scale += high
    return alpha, scale, code


@triton.jit
def _at(table, index):
    """table[index] of [1, SUMS] for every lane [1, T], ZERO outside."""
    inside = (index >= 0) & (index < table.shape[1])
    return tl.where(inside, tl.gather(table, tl.where(inside, index, 0), 1), ZERO)


@triton.jit
def _draw_carry(alpha, table, total, uniform, ADDENDS: tl.constexpr):
    """A carry-in for every lane [1, LANES], ascending; alpha: ADDENDS scalars [1, 1], table [1, SUMS]: f_1."""
    best = tl.full(total.shape, ZERO, tl.float64)
    for c in tl.static_range(ADDENDS):
        best = tl.maximum(best, alpha[c] + _at(table, total - c))
    weight_sum = tl.zeros(total.shape, tl.float64)
    for c in tl.static_range(ADDENDS):
        weight_sum += exp2(alpha[c] + _at(table, total - c) - best)
    running = tl.zeros(total.shape, tl.float64)
    below = tl.zeros(total.shape, tl.int32)
    last = tl.zeros(total.shape, tl.int32)
    for c in tl.static_range(ADDENDS):
        weight = exp2(alpha[c] + _at(table, total - c) - best)
        running += weight
        below += (running <= uniform * weight_sum).to(tl.int32)
        last = tl.where(weight > 0, c, last)
    return tl.minimum(below, last)


@triton.jit
def _digit_term(pointers, high, table, conditioned, remainder, v):
    """log2 weight [1, LANES] of the digit v; conditioned on the later digits (table f_{j+1}) adding up to the rest."""
    always = tl.full((1, 1), True, tl.int1)
    return relative_logit(pointers + v, high, always, tl.float64) + tl.where(
        conditioned, _at(table, remainder - v), 0.0
    )


@triton.jit
def _draw_digit(pointers, high, table, conditioned, remainder, uniform, base):
    """A digit for every lane [1, LANES], ascending; if conditioned, f_{j+1} of the rest is left to the later ones."""
    best = tl.full(remainder.shape, ZERO, tl.float64)
    for v in range(base):
        best = tl.maximum(best, _digit_term(pointers, high, table, conditioned, remainder, v))
    weight_sum = tl.zeros(remainder.shape, tl.float64)
    for v in range(base):
        weight_sum += exp2(_digit_term(pointers, high, table, conditioned, remainder, v) - best)
    running = tl.zeros(remainder.shape, tl.float64)
    below = tl.zeros(remainder.shape, tl.int32)
    last = tl.zeros(remainder.shape, tl.int32)
    for v in range(base):
        weight = exp2(_digit_term(pointers, high, table, conditioned, remainder, v) - best)
        running += weight
        below += (running <= uniform * weight_sum).to(tl.int32)
        last = tl.where(weight > 0, v, last)
    return tl.minimum(below, last)


@triton.jit
def _draw_position(samples, lanes, stash_ptr, i, carry, conditioned, OPTIONS: tl.constexpr):
    """Draws and stores position i; the carry [1, LANES] out of it becomes the one into it. From the prior or not."""
    u = uniforms_float64(lanes.counter, i)
    base = samples.base
    n_digits = samples.n_digits
    tables, highs, totals = _suffix_tables(samples.logits + i * base, samples, OPTIONS)
    digit, digit_code = checked_digit(samples.label + i, tl.full((1, 1), True, tl.int1), base)
    total = digit + base * carry
    alpha = ()
    # The messages were stored by other threads, and are about to be overwritten.
    tl.debug_barrier()
    for c in tl.static_range(OPTIONS.ADDENDS):
        alpha = alpha + (tl.load(stash_ptr + c * n_digits + i).to(tl.float64, bitcast=True),)
    tl.debug_barrier()
    carry = tl.where(conditioned, _draw_carry(alpha, tables[0], total, u[0], OPTIONS.ADDENDS), carry)
    remainder = total - carry
    for j in tl.static_range(OPTIONS.ADDENDS):
        pointers = samples.logits + j * samples.step + i * base
        if j + 1 < OPTIONS.ADDENDS:
            uniform = tl.where(conditioned, u[j + 1], u[j])
            chosen = _draw_digit(pointers, highs[j], tables[j + 1], conditioned, remainder, uniform, base)
        else:
            # Conditioned, the digits before leave one: nothing is drawn.
            n_values = tl.where(conditioned, 0, base)
            drawn = _draw_digit(pointers, highs[j], tables[0], conditioned, remainder, u[j], n_values)
            chosen = tl.where(conditioned, remainder, drawn)
        remainder -= chosen
        tl.store(lanes.out + j * n_digits + i, chosen.to(tl.int64), mask=lanes.stored)
    return carry


@triton.jit
def _draw_all(samples, row, draws, status_ptr, top, code, LANES: tl.constexpr, OPTIONS: tl.constexpr):
    """The status and all samples, whatever the row is; the tile with sample 0 last, for it overwrites the messages."""
    last, scale, chain_code = _forward(samples, row.digits, OPTIONS)
    code = tl.maximum(code, chain_code)
    possible = (entry(last, top) + scale > LEAST_LOG2) & (top < OPTIONS.ADDENDS) & (code != INVALID_LABEL)
    tl.store(status_ptr, final_status(code, possible).to(tl.uint8))
    conditioned = tl.max(possible.to(tl.int32)) > 0
    n_tiles = tl.cdiv(draws.n_samples, LANES)
    for back in range(n_tiles):
        lanes = lanes_of(row, draws, n_tiles - 1 - back, LANES)
        carry = tl.zeros((1, LANES), tl.int32) + top
        for i in range(row.n_digits):
            carry = _draw_position(samples, lanes, row.digits, i, carry, conditioned, OPTIONS)


@triton.jit
def draw_with_logarithms(row, draws, status_ptr, top, code, base, LANES: tl.constexpr, OPTIONS: tl.constexpr):
    """Stores the status and all samples of a row of the batch; status_ptr points to its status."""
    none = tl.zeros((1, 1), tl.int32)
    blocks = Row(row.logits + none, row.label + none, row.digits + none, row.n_digits)
    samples = Samples(
        blocks.logits, blocks.label, none == 0, row.n_digits, base, row.n_digits * base,
        tl.arange(0, OPTIONS.SUMS)[None, :], tl.arange(0, OPTIONS.WIDTH)[None, :],
    )  # fmt: skip
    _draw_all(samples, blocks, draws, status_ptr + none, top, code + none, LANES, OPTIONS)
