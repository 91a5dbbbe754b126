"""Draws exact samples of the digits given the label, a thread for each row and a few of its samples, float64.

As linear_sampling.py, with weights in place of logarithms, and the same draws: a thread holds w and F_2, ..., F_k of a
position in registers, once for all of its samples. It shifts F_2 by the digit of the label, so that carries alone
select what a sample reads of it. This is for few addends and small bases. Rows that weights do not serve are drawn
again with logarithms, by all threads of the block.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.general_linear import Message, tolerance, underflow
from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.linear_sampling import Draws
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import Rows, Sizes, load_position, shifted
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import carried, convolved, selected, sum_of, weights_of
from emnesy_gpu.kernels.gpu.carry_chain.sampling import draw_with_logarithms
from emnesy_gpu.kernels.gpu.carry_chain.sum_tables import Options
from emnesy_gpu.kernels.gpu.carry_chain.symbol_lanes import Row
from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE

CARRY_BITS = tl.constexpr(2)  # an int64 has the carries of 32 samples
CARRY_MASK = tl.constexpr(3)


class Position(NamedTuple):
    """What the samples of a position are drawn from, tuples of tensors [ROWS, 1]."""

    weights: Any  # w_1, ..., w_k by value
    tables: Any  # F_2, ..., F_k by sum
    window: Any  # F_2(digit + u) for u from 2 - ADDENDS - BASE on
    transfers: Any  # T[c', c] at c' * ADDENDS + c


@triton.jit
def _position(rows, i, digit, n_digits, SIZES: tl.constexpr):
    """The Position, and a number that is NaN if its logits are no priors."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    LOW: tl.constexpr = 2 - ADDENDS - BASE
    symbols = load_position(rows, i, n_digits, SIZES)
    weights = ()
    valid = tl.zeros(digit.shape, tl.float64)
    for j in tl.static_range(ADDENDS):
        own, total = weights_of(symbols[j], BASE)
        weights = weights + (own,)
        valid += total
    tables = (weights[ADDENDS - 1],)
    for j in tl.static_range(ADDENDS - 2, 0, -1):
        tables = (convolved(tables[0], weights[j]),) + tables
    window = shifted(tables[0], digit, tl.zeros(digit.shape, tl.float64), LOW, ADDENDS * BASE + ADDENDS - 1, BASE)
    transfers = ()
    for out in tl.static_range(ADDENDS):
        for c in tl.static_range(ADDENDS):
            transfers = transfers + (sum_of(weights[0], window, out * BASE - c - LOW),)
    return Position(weights, tables, window, transfers), valid


@triton.jit
def _scaled(weights, missed, ADDENDS: tl.constexpr):
    """The message times a power of two: its largest weight is between 1 and 2 then."""
    # The weights of a message sum up to less than 8.
    largest = weights[0]
    for c in tl.static_range(1, ADDENDS):
        largest = tl.maximum(largest, weights[c])
    exponent = tl.minimum((largest.to(tl.int64, bitcast=True) >> 52).to(tl.int32), 2045)
    by = ((2046 - exponent).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    scaled_weights = ()
    scaled_missed = ()
    for c in tl.static_range(ADDENDS):
        scaled_weights = scaled_weights + (weights[c] * by,)
        scaled_missed = scaled_missed + ((missed[c] + 8.0 * underflow(tl.float64)) * by,)
    return Message(scaled_weights, scaled_missed)


@triton.jit
def _weigh_carries(rows, n_digits, top, SIZES: tl.constexpr):
    """Leaves the message into every position in the output of the first sample, as bits, one carry an addend.

    Returns where nothing that counts is missing from them.
    """
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    nothing = tl.zeros(rows.present.shape, tl.float64)
    weights = (nothing + 1.0,)
    missed = (nothing,)
    for _ in tl.static_range(1, ADDENDS):
        weights = weights + (nothing,)
        missed = missed + (nothing,)
    valid = nothing
    code = tl.full(rows.present.shape, POSSIBLE, tl.int32)
    for back in range(n_digits):
        i = n_digits - 1 - back
        for c in tl.static_range(ADDENDS):
            tl.store(rows.digits + c * n_digits + i, weights[c].to(tl.int64, bitcast=True), mask=rows.present)
        digit, digit_code = checked_digit(rows.label + i, rows.present, SIZES.BASE)
        code = tl.maximum(code, digit_code)
        position, total = _position(rows, i, digit, n_digits, SIZES)
        valid += total
        after = carried(weights, position.transfers, ADDENDS, 1, ADDENDS)
        message = _scaled(after, carried(missed, position.transfers, ADDENDS, 1, ADDENDS), ADDENDS)
        weights = message.weights
        missed = message.missed
    chance = selected(weights, top, 0, 1, ADDENDS)
    served = (code == POSSIBLE) & (valid == valid) & (top < ADDENDS) & (chance > 0.0)
    return served & (selected(missed, top, 0, 1, ADDENDS) <= tolerance(tl.float64) * chance)


@triton.jit
def _drawn(sums, uniform, COUNT: tl.constexpr):
    """The first of COUNT running sums that exceeds its share of the last."""
    drawn = tl.zeros(uniform.shape, tl.int32)
    for v in tl.static_range(COUNT - 1):
        drawn += (sums[v] <= uniform * sums[COUNT - 1]).to(tl.int32)
    return drawn


@triton.jit
def _draw_carry(transfers, alpha, carry, uniform, ADDENDS: tl.constexpr):
    """A carry-in from the carry out."""
    running = tl.zeros(carry.shape, tl.float64)
    sums = ()
    for c in tl.static_range(ADDENDS):
        running = tl.fma(selected(transfers, carry, c, ADDENDS, ADDENDS), alpha[c], running)
        sums = sums + (running,)
    return _drawn(sums, uniform, ADDENDS)


@triton.jit
def _draw_digit(weights, values, uniform, BASE: tl.constexpr):
    """A digit v by weights[v] values[v]."""
    running = tl.zeros(uniform.shape, tl.float64)
    sums = ()
    for v in tl.static_range(BASE):
        running = tl.fma(weights[v], values[v], running)
        sums = sums + (running,)
    return _drawn(sums, uniform, BASE)


@triton.jit
def _rests_of_first(window, carry, carry_in, SIZES: tl.constexpr):
    """F_2(digit + base carry - carry_in - v) by v."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    below = ()
    for s in tl.static_range(BASE + ADDENDS - 1):
        below = below + (selected(window, carry, ADDENDS + BASE - 2 - s, BASE, ADDENDS),)
    values = ()
    for v in tl.static_range(BASE):
        values = values + (selected(below, carry_in, v, 1, ADDENDS),)
    return values


@triton.jit
def _rests(table, rest, LIMIT: tl.constexpr, BASE: tl.constexpr):
    """table[rest - v] by v, 0 outside, for a rest below LIMIT."""
    ascending = shifted(table, rest, tl.zeros(rest.shape, tl.float64), 1 - BASE, BASE, LIMIT)
    values = ()
    for v in tl.static_range(BASE):
        values = values + (ascending[BASE - 1 - v],)
    return values


@triton.jit
def _draw_digits(position, out, rest, values, u, drawn, n_digits, SIZES: tl.constexpr):
    """Stores the digits of a sample, whose sum is the rest; values: F_2(rest - v)."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    for j in tl.static_range(ADDENDS - 1):
        if j > 0:
            values = _rests(position.tables[j], rest, (ADDENDS - j) * (BASE - 1) + 1, BASE)
        digit = _draw_digit(position.weights[j], values, u[j + 1], BASE)
        tl.store(out + j * n_digits, digit.to(tl.int64), mask=drawn)
        rest -= digit
    tl.store(out + (ADDENDS - 1) * n_digits, rest.to(tl.int64), mask=drawn)


@triton.jit
def _draw_position(rows, drawn, draws, i, carries, n_digits, SIZES: tl.constexpr):
    """Draws and stores position i of all samples; the carries out of it become those into it."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    alpha = ()
    for c in tl.static_range(ADDENDS):
        alpha = alpha + (tl.load(rows.digits + c * n_digits + i, mask=drawn, other=0).to(tl.float64, bitcast=True),)
    # The messages are about to be overwritten.
    tl.debug_barrier()
    digit, _ = checked_digit(rows.label + i, drawn, SIZES.BASE)
    position, _ = _position(rows, i, digit, n_digits, SIZES)
    out = rows.digits + i
    carries_in = tl.zeros(carries.shape, tl.int64)
    for s in range(draws.n_samples):
        u = uniforms_float64(Counter(draws.seed, tl.zeros(digit.shape, tl.int32) + (draws.first + s), draws.row), i)
        carry = ((carries >> (CARRY_BITS * s)) & CARRY_MASK).to(tl.int32)
        carry_in = _draw_carry(position.transfers, alpha, carry, u[0], ADDENDS)
        carries_in |= carry_in.to(tl.int64) << (CARRY_BITS * s)
        values = _rests_of_first(position.window, carry, carry_in, SIZES)
        rest = digit + SIZES.BASE * carry - carry_in
        _draw_digits(position, out, rest, values, u, drawn, n_digits, SIZES)
        out += draws.step
    return carries_in


@triton.jit
def _draw_weighed(rows, drawn, draws, top, n_digits, SIZES: tl.constexpr):
    """All samples where drawn, from the messages that _weigh_carries left."""
    carries = tl.zeros(top.shape, tl.int64)
    for s in range(draws.n_samples):
        carries |= top.to(tl.int64) << (CARRY_BITS * s)
    tl.debug_barrier()
    for i in range(n_digits):
        carries = _draw_position(rows, drawn, draws, i, carries, n_digits, SIZES)


@triton.jit(do_not_specialize=["batch", "n_digits", "base", "n_samples", "group", "seed", "first_row"])
def row_sample_kernel(
    logits_ptr, label_ptr, digits_ptr, status_ptr, batch, n_digits, base, n_samples, group, seed, first_row,
    ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, WIDTH: tl.constexpr, SUMS: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """A group of samples, 32 at most, of ROWS rows. base: BASE, for loops that are seldom taken and stay loops.

    Grid (ceil(batch / ROWS) ceil(n_samples / group),). logits [batch, ADDENDS, n_digits, base], digits int64
    [n_samples, batch, ADDENDS, n_digits].
    """
    SIZES: tl.constexpr = Sizes(ADDENDS, BASE, tl.float64, False)
    OPTIONS: tl.constexpr = Options(ADDENDS, SUMS, WIDTH, tl.float64)
    blocks = tl.cdiv(batch, ROWS)
    first_of_block = (tl.program_id(0) % blocks).to(tl.int64) * ROWS
    row = first_of_block + tl.arange(0, ROWS)[:, None]
    present = row < batch
    size = ADDENDS * n_digits
    step = batch.to(tl.int64) * size
    first = tl.program_id(0) // blocks * group
    digits_ptr += first.to(tl.int64) * step
    label = label_ptr + row * (N_EXTRA + n_digits)
    rows = Rows(logits_ptr + row * (size * BASE), label + N_EXTRA, digits_ptr + row * size, present, None)
    draws = Draws(seed, first_row.to(tl.int64) + row, first, tl.minimum(n_samples - first, group), step)
    top, code = top_carry(label, present, N_EXTRA, BASE)
    served = present & (code == POSSIBLE) & _weigh_carries(rows, n_digits, top, SIZES)
    tl.store(status_ptr + row, tl.full(row.shape, POSSIBLE, tl.uint8), mask=served)
    _draw_weighed(rows, served, draws, tl.where(served, top, 0), n_digits, SIZES)
    unserved = tl.where(present & (served == 0), row, -1)
    if tl.max(unserved) >= 0:
        tl.debug_barrier()
        for r in range(ROWS):
            index = first_of_block + r
            if tl.max((unserved == index).to(tl.int32)) > 0:
                own_label = label_ptr + index * (N_EXTRA + n_digits)
                own = Row(logits_ptr + index * (size * BASE), own_label + N_EXTRA, digits_ptr + index * size, n_digits)
                own_draws = Draws(seed, first_row.to(tl.int64) + index, first, draws.n_samples, step)
                own_top, own_code = top_carry(own_label, True, N_EXTRA, BASE)
                draw_with_logarithms(own, own_draws, status_ptr + index, own_top, own_code, base, ROWS, OPTIONS)
