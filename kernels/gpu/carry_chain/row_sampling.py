"""Draws exact samples of the digits given the label, a thread for each row and a few of its samples, float64.

w_j(v) = p_j(v) / max p_j. F_j(r) sums w_j(v) F_{j+1}(r - v), from F_k = w_k on, and T[c', c] = F_1(digit + base c' - c)
takes messages over carries from position to position. A sample draws the carry-in c by alpha(c) T[c', c], then d_1 of
the rest r by w_1(v) F_2(r - v), and so on. A thread tabulates w, F_2, ..., F_k and T of a position once for all of its
samples, see row_positions.py. Rows that weights do not serve are drawn again with logarithms, by all threads of the block.

A message is scaled by a power of two. What underflow has taken from its entries is bounded by `missed`, which the same
products take along.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.messages import Message, tolerance, underflow
from emnesy_gpu.kernels.gpu.carry_chain.row_positions import (
    draw_kept,
    keep_position,
    kept_sum,
    kept_transfers,
    position_in_registers,
    rests_of,
    rests_of_first,
    transfers_of,
)
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import Rows, Sizes, keep_everywhere, scratch_of
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import carried, selected
from emnesy_gpu.kernels.gpu.carry_chain.sampling import Draws, Row, draw_with_logarithms
from emnesy_gpu.kernels.gpu.carry_chain.sum_tables import Options
from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE

CARRY_BITS = tl.constexpr(2)  # an int64 has the carries of 32 samples
CARRY_MASK = tl.constexpr(3)


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
    for back in tl.range(n_digits, disable_licm=SIZES.KEPT):
        i = n_digits - 1 - back
        for c in tl.static_range(ADDENDS):
            tl.store(rows.digits + c * n_digits + i, weights[c].to(tl.int64, bitcast=True), mask=rows.present)
        digit, digit_code = checked_digit(rows.label + i, rows.present, SIZES.BASE)
        code = tl.maximum(code, digit_code)
        if SIZES.KEPT:
            valid += keep_position(rows, i, digit, n_digits, SIZES)
            transfers = kept_transfers(rows, 0, ADDENDS**2, SIZES)
        else:
            position, total = position_in_registers(rows, i, digit, n_digits, SIZES)
            valid += total
            transfers = position.transfers
        after = carried(weights, transfers, ADDENDS, 1, ADDENDS)
        message = _scaled(after, carried(missed, transfers, ADDENDS, 1, ADDENDS), ADDENDS)
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
def _drawn_by(weights, values, uniform):
    """A carry or digit v by weights[v] values[v]."""
    COUNT: tl.constexpr = len(weights)
    running = tl.zeros(uniform.shape, tl.float64)
    sums = ()
    for v in tl.static_range(COUNT):
        running = tl.fma(weights[v], values[v], running)
        sums = sums + (running,)
    return _drawn(sums, uniform, COUNT)


@triton.jit
def _draw_digits(position, out, carries, rest, u, drawn, n_digits, SIZES: tl.constexpr):
    """Stores the digits of a sample, whose sum is the rest, for its carries out and in."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    for j in tl.static_range(ADDENDS - 1):
        values = rests_of_first(position, carries, SIZES) if j == 0 else rests_of(position, rest, j, SIZES)
        digit = _drawn_by(position.weights[j], values, u[j + 1])
        tl.store(out + j * n_digits, digit.to(tl.int64), mask=drawn)
        rest -= digit
    tl.store(out + (ADDENDS - 1) * n_digits, rest.to(tl.int64), mask=drawn)


@triton.jit
def _draw_digits_kept(rows, out, total, rest, u, drawn, n_digits, SIZES: tl.constexpr):
    """The same from scratch memory. total: that of the weights of d_1."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    for j in tl.static_range(ADDENDS - 1):
        # What rows that are not drawn look up stays inside.
        rest = tl.where(drawn, rest, 0)
        if j > 0:
            total = kept_sum(rows, rest, j, SIZES)
        digit = draw_kept(rows, rest, total, u[j + 1], j, SIZES)
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
    if SIZES.KEPT:
        keep_position(rows, i, digit, n_digits, SIZES)
    else:
        position, _ = position_in_registers(rows, i, digit, n_digits, SIZES)
    out = rows.digits + i
    carries_in = tl.zeros(carries.shape, tl.int64)
    for s in range(draws.n_samples):
        u = uniforms_float64(Counter(draws.seed, tl.zeros(digit.shape, tl.int32) + (draws.first + s), draws.row), i)
        carry = ((carries >> (CARRY_BITS * s)) & CARRY_MASK).to(tl.int32)
        if SIZES.KEPT:
            transfers = kept_transfers(rows, SIZES.ADDENDS * carry, SIZES.ADDENDS, SIZES)
        else:
            transfers = transfers_of(position, carry, SIZES)
        carry_in = _drawn_by(alpha, transfers, u[0])
        carries_in |= carry_in.to(tl.int64) << (CARRY_BITS * s)
        rest = digit + SIZES.BASE * carry - carry_in
        if SIZES.KEPT:
            total = selected(transfers, carry_in, 0, 1, SIZES.ADDENDS)
            _draw_digits_kept(rows, out, total, rest, u, drawn, n_digits, SIZES)
        else:
            _draw_digits(position, out, (carry, carry_in), rest, u, drawn, n_digits, SIZES)
        out += draws.step
    return carries_in


@triton.jit
def _draw_weighed(rows, drawn, draws, top, n_digits, SIZES: tl.constexpr):
    """All samples where drawn, from the messages that _weigh_carries left."""
    carries = tl.zeros(top.shape, tl.int64)
    for s in range(draws.n_samples):
        carries |= top.to(tl.int64) << (CARRY_BITS * s)
    tl.debug_barrier()
    for i in tl.range(n_digits, disable_licm=SIZES.KEPT):
        carries = _draw_position(rows, drawn, draws, i, carries, n_digits, SIZES)


class Launch(NamedTuple):
    """The arguments of a launch."""

    logits: Any  # [batch, ADDENDS, n_digits, BASE]
    label: Any  # int64 [batch, N_EXTRA + n_digits]
    digits: Any  # int64 [n_samples, batch, ADDENDS, n_digits]
    status: Any  # uint8 [batch]
    scratch: Any  # pointers [ROWS, 1] to float64 [entries, ROWS] of the program
    batch: Any
    n_digits: Any
    base: Any  # BASE, for loops that are seldom taken and stay loops
    n_samples: Any
    group: Any  # samples of a thread
    seed: Any
    first_row: Any


@triton.jit
def _draw_unserved(launch, draws, unserved, first_of_block, N_EXTRA: tl.constexpr, OPTIONS, ADDENDS: tl.constexpr):
    """Draws for the rows of a block whose numbers in it are not -1, by all threads; draws: those of any row of it."""
    ROWS: tl.constexpr = unserved.shape[0]
    n_digits = launch.n_digits
    size = ADDENDS * n_digits
    tl.debug_barrier()
    for r in range(ROWS):
        if tl.max((unserved == r).to(tl.int32)) > 0:
            index = (first_of_block + r).to(tl.int64)
            label = launch.label + index * (N_EXTRA + n_digits)
            logits = launch.logits + index * (size * launch.base)
            digits = launch.digits + draws.first.to(tl.int64) * draws.step + index * size
            own = Row(logits, label + N_EXTRA, digits, n_digits)
            own_draws = Draws(
                draws.seed, launch.first_row.to(tl.int64) + index, draws.first, draws.n_samples, draws.step
            )
            top, code = top_carry(label, True, N_EXTRA, launch.base)
            draw_with_logarithms(own, own_draws, launch.status + index, top, code, launch.base, ROWS, OPTIONS)


@triton.jit
def _draw_task(task, launch, N_EXTRA: tl.constexpr, OPTIONS: tl.constexpr, SIZES: tl.constexpr):
    """Draws a group of samples for a block of rows."""
    ROWS: tl.constexpr = launch.scratch.shape[0]
    n_digits = launch.n_digits
    blocks = tl.cdiv(launch.batch, ROWS)
    first_of_block = tl.zeros((), tl.int32) + task % blocks * ROWS
    lane = tl.arange(0, ROWS)[:, None]
    row = first_of_block.to(tl.int64) + lane
    present = row < launch.batch
    size = SIZES.ADDENDS * n_digits
    step = launch.batch.to(tl.int64) * size
    first = tl.zeros((), tl.int32) + task // blocks * launch.group
    label = launch.label + row * (N_EXTRA + n_digits)
    rows = Rows(
        launch.logits + row * (size * SIZES.BASE), label + N_EXTRA,
        launch.digits + first.to(tl.int64) * step + row * size, present, launch.scratch, launch.base,
    )  # fmt: skip
    n_samples = tl.minimum(launch.n_samples - first, launch.group)
    draws = Draws(launch.seed, launch.first_row.to(tl.int64) + row, first, n_samples, step)
    top, code = top_carry(label, present, N_EXTRA, SIZES.BASE)
    served = present & (code == POSSIBLE) & _weigh_carries(rows, n_digits, top, SIZES)
    tl.store(launch.status + row, tl.full(row.shape, POSSIBLE, tl.uint8), mask=served)
    _draw_weighed(rows, served, draws, tl.where(served, top, 0), n_digits, SIZES)
    unserved = tl.where(present & (served == 0), lane, -1)
    if tl.max(unserved) >= 0:
        _draw_unserved(launch, draws, unserved, first_of_block, N_EXTRA, OPTIONS, SIZES.ADDENDS)


@triton.jit(do_not_specialize=["batch", "n_digits", "base", "n_samples", "group", "seed", "first_row"])
def row_sample_kernel(
    logits_ptr, label_ptr, digits_ptr, status_ptr, scratch_ptr, batch, n_digits, base, n_samples, group, seed,
    first_row, ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, WIDTH: tl.constexpr,
    SUMS: tl.constexpr, ROWS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """Programs share blocks of ROWS rows with a group of samples each, 32 at most.

    ENTRIES: of the scratch memory of a row, 0 if tables are in registers: then a program has one block. Grid
    (programs,). logits [batch, ADDENDS, n_digits, base], digits int64 [n_samples, batch, ADDENDS, n_digits].
    """
    SIZES: tl.constexpr = Sizes(ADDENDS, BASE, tl.float64, ENTRIES > 0, ENTRIES > 0)
    OPTIONS: tl.constexpr = Options(ADDENDS, SUMS, WIDTH, tl.float64)
    scratch = scratch_of(scratch_ptr, ENTRIES, ROWS)
    launch = Launch(
        logits_ptr, label_ptr, digits_ptr, status_ptr, scratch, batch, n_digits, base, n_samples, group, seed, first_row
    )
    if ENTRIES > 0:
        tasks = tl.cdiv(batch, ROWS) * tl.cdiv(n_samples, group)
        for task in tl.range(tl.program_id(0), tasks, tl.num_programs(0), disable_licm=True):
            keep_everywhere(scratch, 0.0, ENTRIES)
            _draw_task(task, launch, N_EXTRA, OPTIONS, SIZES)
    else:  # without a loop, whose variables would spill registers
        _draw_task(tl.program_id(0), launch, N_EXTRA, OPTIONS, SIZES)
