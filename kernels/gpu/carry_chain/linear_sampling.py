"""Draws samples with weights in place of logarithms, float64, and says which rows that serves.

w_j(v) = p_j(v) / max p_j. F_j(r) sums w_j(v) F_{j+1}(r - v), from F_k = w_k on, and T[c', c] = F_1(digit + base c' - c)
takes messages over carries from position to position. A sample draws the carry-in c by alpha(c) T[c', c], then d_1 of
the rest r by w_1(v) F_2(r - v), and so on; a sum of weights is an entry of the table before, which spares one pass.

A message is scaled by a power of two. What underflow has taken from its entries is bounded by `missed`, which the same
products take along. symbol_lanes.py says which lane of a tile [1, SUMS] has what.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit
from emnesy_gpu.kernels.gpu.carry_chain.linear_sums import at, places
from emnesy_gpu.kernels.gpu.carry_chain.messages import Message, tolerance, underflow
from emnesy_gpu.kernels.gpu.carry_chain.symbol_lanes import from_lane, load_position, over_values
from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, exp2
from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE


@triton.jit
def _weights(row, i, SUMS: tl.constexpr, SIZES: tl.constexpr):
    """w of position i by symbol and value; NaN if a symbol's logits are no prior, 0 in lanes without one."""
    scores = load_position(row, i, SUMS, SIZES)
    high = over_values(scores, True, SIZES.BASE)
    weights = exp2((scores.to(tl.float64) - high.to(tl.float64)) * LOG2_E)
    return tl.where(places(scores) < SIZES.ADDENDS * SIZES.BASE, weights, 0.0)


@triton.jit
def _tables(weights, SIZES: tl.constexpr):
    """F_2, ..., F_k."""
    lane = places(weights)
    last = from_lane(weights, (SIZES.ADDENDS - 1) * SIZES.BASE + lane)
    table = tl.where(lane < SIZES.BASE, last, 0.0)
    tables = (table,)
    for j in tl.static_range(SIZES.ADDENDS - 2, 0, -1):
        total = tl.zeros_like(table)
        for v in range(SIZES.BASE):
            total = tl.fma(at(weights, j * SIZES.BASE + v), table, total)
            table = from_lane(table, lane - 1)
        table = total
        tables = (table,) + tables
    return tables


@triton.jit
def _carry_in(lane, SIZES: tl.constexpr):
    return lane // SIZES.PARTS % SIZES.ADDENDS


@triton.jit
def _transfers(weights, table, digit, SIZES: tl.constexpr):
    """T[c', c] in the first lane of each; table: F_2."""
    lane = places(weights)
    PARTS: tl.constexpr = SIZES.PARTS
    VALUES: tl.constexpr = (SIZES.BASE + PARTS - 1) // PARTS
    rest = digit + SIZES.BASE * (lane // (SIZES.ADDENDS * PARTS)) - _carry_in(lane, SIZES)
    total = tl.zeros_like(weights)
    for s in tl.static_range(VALUES):
        v = lane % PARTS * VALUES + s
        total = tl.fma(tl.where(v < SIZES.BASE, from_lane(weights, v), 0.0), from_lane(table, rest - v), total)
    for bit in tl.static_range(6):
        if (1 << bit) < PARTS:
            total += from_lane(total, lane + (1 << bit))
    return total


@triton.jit
def _carried(weights, transfers, SIZES: tl.constexpr):
    """The product of a message, in the first lane of every carry out, with T."""
    lane = places(transfers)
    product = from_lane(weights, _carry_in(lane, SIZES) * (SIZES.ADDENDS * SIZES.PARTS)) * transfers
    total = product
    for c in tl.static_range(1, SIZES.ADDENDS):
        total += from_lane(product, lane + c * SIZES.PARTS)
    return total


@triton.jit
def _scaled(message, counted):
    """The message times a power of two: the largest of the entries that count is between 1 and 2 then."""
    upper = (message.weights.to(tl.int64, bitcast=True) >> 52).to(tl.int32)
    exponent = tl.minimum(tl.max(tl.where(counted, upper, 0)), 2045)
    by = ((2046 - exponent).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    return Message(message.weights * by, message.missed * by)


@triton.jit
def weigh_carries(row, top, SUMS: tl.constexpr, SIZES: tl.constexpr):
    """Leaves the message into every position in the output of the first sample, as bits, one carry an addend.

    Returns whether nothing that counts is missing from them.
    """
    lane = tl.arange(0, SUMS)[None, :]
    OWN: tl.constexpr = SIZES.ADDENDS * SIZES.PARTS
    counted = (lane % OWN == 0) & (lane < SIZES.ADDENDS * OWN)
    message = Message(tl.where(lane == 0, 1.0, 0.0).to(tl.float64), tl.zeros((1, SUMS), tl.float64))
    valid = tl.full((1, SUMS), True, tl.int1)
    code = POSSIBLE
    for back in range(row.n_digits):
        i = row.n_digits - 1 - back
        bits = tl.cast(message.weights, tl.int64, bitcast=True)
        tl.store(row.digits + lane // OWN * row.n_digits + i, bits, mask=counted)
        weights = _weights(row, i, SUMS, SIZES)
        valid &= weights == weights
        digit, digit_code = checked_digit(row.label + i, True, SIZES.BASE)
        code = tl.maximum(code, digit_code)
        transfers = _transfers(weights, _tables(weights, SIZES)[0], digit, SIZES)
        # The weights of a message sum up to less than 8.
        missed = _carried(message.missed, transfers, SIZES) + 8.0 * underflow(tl.float64)
        message = _scaled(Message(_carried(message.weights, transfers, SIZES), missed), counted)
    chance = tl.sum(tl.where(lane == top * OWN, message.weights, 0.0))
    missed = tl.sum(tl.where(lane == top * OWN, message.missed, 0.0))
    served = (code == POSSIBLE) & (tl.min(valid.to(tl.int32)) > 0) & (top < SIZES.ADDENDS) & (chance > 0.0)
    return served & (missed <= tolerance(tl.float64) * chance)


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
def _draw_carry(row, i, transfers, carry, uniform, SIZES: tl.constexpr):
    """A carry-in for every lane and its T, from the carry out; all [1, LANES]."""
    first = carry * (SIZES.ADDENDS * SIZES.PARTS)
    running = tl.zeros(carry.shape, tl.float64)
    sums = ()
    chances = ()
    for c in tl.static_range(SIZES.ADDENDS):
        alpha = tl.load(row.digits + c * row.n_digits + i).to(tl.float64, bitcast=True)
        chance = from_lane(transfers, first + c * SIZES.PARTS)
        running = tl.fma(chance, alpha + tl.zeros_like(chance), running)
        chances = chances + (chance,)
        sums = sums + (running,)
    carry = tl.zeros(carry.shape, tl.int32)
    chosen = chances[0]
    for c in tl.static_range(1, SIZES.ADDENDS):
        beyond = sums[c - 1] <= uniform * running
        carry += beyond.to(tl.int32)
        chosen = tl.where(beyond, chances[c], chosen)
    return carry, chosen


@triton.jit
def _draw_digit(weights, table, rest, limit, FIRST: tl.constexpr, BASE: tl.constexpr):
    """The first digit for every lane [1, LANES] whose running sum exceeds the limit."""
    running = tl.zeros(rest.shape, tl.float64)
    digit = tl.zeros(rest.shape, tl.int32)
    for v in range(BASE - 1):
        own = tl.gather(weights, tl.full(rest.shape, FIRST + v, tl.int32), 1)
        running = tl.fma(own, tl.gather(table, (rest - v) & (table.shape[1] - 1), 1), running)
        digit += (running <= limit).to(tl.int32)
    return digit


@triton.jit
def _draw_position(row, lanes, i, carry, SUMS: tl.constexpr, SIZES: tl.constexpr):
    """Draws and stores position i; the carry [1, LANES] out of it becomes the one into it."""
    u = uniforms_float64(lanes.counter, i)
    weights = _weights(row, i, SUMS, SIZES)
    tables = _tables(weights, SIZES)
    digit, code = checked_digit(row.label + i, True, SIZES.BASE)
    transfers = _transfers(weights, tables[0], digit, SIZES)
    rest = digit + SIZES.BASE * carry
    # The messages were stored by other threads, and are about to be overwritten.
    tl.debug_barrier()
    carry, total = _draw_carry(row, i, transfers, carry, u[0], SIZES)
    tl.debug_barrier()
    rest -= carry
    for j in tl.static_range(SIZES.ADDENDS - 1):
        if j > 0:
            total = from_lane(tables[j - 1], rest)
        chosen = _draw_digit(weights, tables[j], rest, u[j + 1] * total, j * SIZES.BASE, SIZES.BASE)
        tl.store(lanes.out + j * row.n_digits + i, chosen.to(tl.int64), mask=lanes.stored)
        rest -= chosen
    tl.store(lanes.out + (SIZES.ADDENDS - 1) * row.n_digits + i, rest.to(tl.int64), mask=lanes.stored)
    return carry


@triton.jit
def draw_weighed(row, draws, top, SUMS: tl.constexpr, LANES: tl.constexpr, SIZES: tl.constexpr):
    """All samples, from the messages that weigh_carries left; the tile with sample 0 last, for it overwrites them."""
    n_tiles = tl.cdiv(draws.n_samples, LANES)
    for back in range(n_tiles):
        lanes = lanes_of(row, draws, n_tiles - 1 - back, LANES)
        carry = tl.zeros((1, LANES), tl.int32) + top
        for i in range(row.n_digits):
            carry = _draw_position(row, lanes, i, carry, SUMS, SIZES)
