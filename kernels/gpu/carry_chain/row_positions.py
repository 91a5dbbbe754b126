"""Tabulates what the samples of a position are drawn from, a thread for each row of the batch: weights, float64.

In registers F_2 is shifted by the digit of the label, so that carries alone select what a sample reads of it. In scratch
memory a sample finds what it needs by its own sums. Either has the same bits: all sums are over ascending values.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels import carry_chain_config
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import (
    keep,
    keep_symbol,
    kept,
    load_position,
    rest_of_blocks,
    shifted,
    table_entry,
)
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import (
    convolve_kept,
    convolved,
    keep_weights,
    kept_products,
    selected,
    sum_of,
    weights_of,
)

AT_ONCE = tl.constexpr(carry_chain_config.AT_ONCE)


class Position(NamedTuple):
    """Tuples of tensors [ROWS, 1], in registers."""

    weights: Any  # w_1, ..., w_k by value
    tables: Any  # F_2, ..., F_k by sum
    window: Any  # F_2(digit + u) for u from 2 - ADDENDS - BASE on
    transfers: Any  # T[c', c] at c' * ADDENDS + c


@triton.jit
def position_in_registers(rows, i, digit, n_digits, SIZES: tl.constexpr):
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


@triton.constexpr_function
def _transfers_place(addends, base):
    """Where T is, at c' * ADDENDS + c."""
    return table_entry(addends + 1, addends, base)


@triton.constexpr_function
def _weights_place(j, addends, base):
    """Where w_{j + 1} is: the last of them is the last table."""
    return (
        table_entry(addends, addends, base)
        if j == addends - 1
        else _transfers_place(addends, base) + addends**2 + j * base
    )


@triton.jit
def _keep_table(rows, J: tl.constexpr, SIZES: tl.constexpr):
    """Leaves F_{J + 1}."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    WEIGHTS: tl.constexpr = _weights_place(J, ADDENDS, BASE)
    FROM: tl.constexpr = table_entry(J + 2, ADDENDS, BASE)
    TO: tl.constexpr = table_entry(J + 1, ADDENDS, BASE)
    convolve_kept(rows, WEIGHTS, FROM, TO, (ADDENDS - J) * (rows.base - 1) + 1)


@triton.jit
def keep_position(rows, i, digit, n_digits, SIZES: tl.constexpr):
    """Leaves weights, tables and transfers in scratch memory; returns a number that is NaN if logits are no priors."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    valid = tl.zeros(digit.shape, tl.float64)
    for j in tl.static_range(ADDENDS - 1, -1, -1):
        keep_symbol(rows, j, i, n_digits, _weights_place(j, ADDENDS, BASE), SIZES)
        valid += keep_weights(rows, _weights_place(j, ADDENDS, BASE))
        if (j > 0) & (j < ADDENDS - 1):
            _keep_table(rows, j, SIZES)
    _keep_transfers(rows, digit, SIZES)
    return valid


@triton.jit
def _keep_transfers(rows, digit, SIZES: tl.constexpr):
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    WEIGHTS: tl.constexpr = _weights_place(0, ADDENDS, BASE)
    START: tl.constexpr = table_entry(2, ADDENDS, BASE) - (ADDENDS - 1)
    for out in range(ADDENDS):
        ascending = kept_products(rows.scratch, WEIGHTS, START + digit + BASE * out, rows.base, ADDENDS, False)
        transfers = ()
        for c in tl.static_range(ADDENDS):
            transfers = transfers + (ascending[ADDENDS - 1 - c],)
        keep(rows.scratch, transfers, _transfers_place(ADDENDS, BASE) + ADDENDS * out)


@triton.jit
def kept_transfers(rows, first, COUNT: tl.constexpr, SIZES: tl.constexpr):
    """COUNT entries of T, from c' * ADDENDS + c = first on."""
    return kept(rows.scratch, _transfers_place(SIZES.ADDENDS, SIZES.BASE) + first, COUNT)


@triton.jit
def kept_sum(rows, rest, J: tl.constexpr, SIZES: tl.constexpr):
    """F_{J + 1}(rest), which w_{J + 1}(v) F_{J + 2}(rest - v) sum up to."""
    return kept(rows.scratch, table_entry(J + 1, SIZES.ADDENDS, SIZES.BASE) + rest, 1)[0]


@triton.jit
def _count_below(counted, limit, COUNT: tl.constexpr):
    """Counts COUNT more running sums that are not above the limit; the assembler sees no loop."""
    own, other, running, digit = counted
    for _ in range(COUNT):
        running = tl.fma(tl.load(own), tl.load(other), running)
        digit += (running <= limit).to(tl.int32)
        own += limit.shape[0]
        other -= limit.shape[0]
    return own, other, running, digit


@triton.jit
def draw_kept(rows, rest, total, uniform, J: tl.constexpr, SIZES: tl.constexpr):
    """d_{J + 1} by w_{J + 1}(v) F_{J + 2}(rest - v), which sum up to the total."""
    ROWS: tl.constexpr = rows.scratch.shape[0]
    own = rows.scratch + _weights_place(J, SIZES.ADDENDS, SIZES.BASE) * ROWS
    other = rows.scratch + (table_entry(J + 2, SIZES.ADDENDS, SIZES.BASE) + rest) * ROWS
    limit = uniform * total
    counted = own, other, tl.zeros_like(limit), tl.zeros_like(rest)
    REST: tl.constexpr = rest_of_blocks(SIZES.BASE - 1)
    for _ in range(0, rows.base - 1 - REST, AT_ONCE):
        counted = _count_below(counted, limit, AT_ONCE)
    if REST > 0:
        counted = _count_below(counted, limit, REST)
    return counted[3]


@triton.jit
def transfers_of(position, carry, SIZES: tl.constexpr):
    """T[carry, c] by c."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    transfers = ()
    for c in tl.static_range(ADDENDS):
        transfers = transfers + (selected(position.transfers, carry, c, ADDENDS, ADDENDS),)
    return transfers


@triton.jit
def rests_of_first(position, carries, SIZES: tl.constexpr):
    """F_2(rest - v) by v, for the carries out and in: the rest is digit + base carry - carry_in."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    below = ()
    for s in tl.static_range(BASE + ADDENDS - 1):
        below = below + (selected(position.window, carries[0], ADDENDS + BASE - 2 - s, BASE, ADDENDS),)
    values = ()
    for v in tl.static_range(BASE):
        values = values + (selected(below, carries[1], v, 1, ADDENDS),)
    return values


@triton.jit
def rests_of(position, rest, J: tl.constexpr, SIZES: tl.constexpr):
    """F_{J + 2}(rest - v) by v."""
    BASE: tl.constexpr = SIZES.BASE
    LIMIT: tl.constexpr = (SIZES.ADDENDS - J) * (BASE - 1) + 1
    none = tl.zeros(rest.shape, tl.float64)
    ascending = shifted(position.tables[J], rest, none, 1 - BASE, BASE, LIMIT)
    values = ()
    for v in tl.static_range(BASE):
        values = values + (ascending[BASE - 1 - v],)
    return values
