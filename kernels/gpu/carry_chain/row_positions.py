"""Tabulates what the samples of a position are drawn from, a thread for each row of the batch: weights, float64.

In registers F_2 is shifted by the digit of the label, so that carries alone select what a sample reads of it. In scratch
memory a sample finds what it needs by its own sums.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.row_tables import keep, kept, load_position, load_symbol, shifted, table_entry
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import convolve_kept, convolved, selected, sum_of, weights_of


class Position(NamedTuple):
    """Tuples of tensors [ROWS, 1], the last three empty where scratch memory has their entries."""

    weights: Any  # w_1, ..., w_k by value
    tables: Any  # F_2, ..., F_k by sum
    window: Any  # F_2(digit + u) for u from 2 - ADDENDS - BASE on
    transfers: Any  # T[c', c] at c' * ADDENDS + c


@triton.jit
def position_of(rows, i, digit, n_digits, SIZES: tl.constexpr):
    """The Position, and a number that is NaN if its logits are no priors."""
    if SIZES.KEPT:
        position, valid = _kept_position(rows, i, digit, n_digits, SIZES)
    else:
        position, valid = _position_in_registers(rows, i, digit, n_digits, SIZES)
    return position, valid


@triton.jit
def _position_in_registers(rows, i, digit, n_digits, SIZES: tl.constexpr):
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
def _kept_position(rows, i, digit, n_digits, SIZES: tl.constexpr):
    weights = ()
    valid = tl.zeros(digit.shape, tl.float64)
    for j in tl.static_range(SIZES.ADDENDS - 1, -1, -1):
        own, total = weights_of(load_symbol(rows, j, i, n_digits, SIZES), SIZES.BASE)
        weights = (own,) + weights
        valid += total
        _keep_table(own, rows, digit, j, SIZES)
    return Position(weights, (), (), ()), valid


@triton.jit
def _keep_table(weights, rows, digit, J: tl.constexpr, SIZES: tl.constexpr):
    """Leaves F_{J + 1}, or in place of F_1 the transfers, in scratch memory; weights: w_{J + 1}."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    if J == ADDENDS - 1:
        keep(rows.scratch, weights, table_entry(ADDENDS, ADDENDS, SIZES.BASE))
        # The compiler would compute the weights of the next symbol at the same time, and spill registers.
        tl.debug_barrier()
    elif J > 0:
        convolve_kept(rows.scratch, weights, J + 1, ADDENDS)
    else:
        _keep_transfers(weights, rows, digit, SIZES)


@triton.jit
def _keep_transfers(weights, rows, digit, SIZES: tl.constexpr):
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    for out in range(ADDENDS):
        window = kept(rows.scratch, digit + BASE * out, ADDENDS + BASE - 1)
        transfers = ()
        for c in tl.static_range(ADDENDS):
            transfers = transfers + (sum_of(weights, window, ADDENDS + BASE - 2 - c),)
        keep(rows.scratch, transfers, table_entry(ADDENDS + 1, ADDENDS, BASE) + ADDENDS * out)


@triton.jit
def all_transfers(position, rows, SIZES: tl.constexpr):
    """T[c', c] at c' * ADDENDS + c."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    if SIZES.KEPT:
        transfers = kept(rows.scratch, table_entry(ADDENDS + 1, ADDENDS, SIZES.BASE), ADDENDS**2)
    else:
        transfers = position.transfers
    return transfers


@triton.jit
def transfers_of(position, rows, carry, SIZES: tl.constexpr):
    """T[carry, c] by c."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    if SIZES.KEPT:
        first = table_entry(ADDENDS + 1, ADDENDS, SIZES.BASE) + ADDENDS * carry
        transfers = kept(rows.scratch, first, ADDENDS)
    else:
        transfers = ()
        for c in tl.static_range(ADDENDS):
            transfers = transfers + (selected(position.transfers, carry, c, ADDENDS, ADDENDS),)
    return transfers


@triton.jit
def rests_of_first(position, rows, carries, rest, SIZES: tl.constexpr):
    """F_2(rest - v) by v, for the carries out and in: rest is digit + base carry - carry_in."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    if SIZES.KEPT:
        values = rests_of(position, rows, rest, 0, SIZES)
    else:
        below = ()
        for s in tl.static_range(BASE + ADDENDS - 1):
            below = below + (selected(position.window, carries[0], ADDENDS + BASE - 2 - s, BASE, ADDENDS),)
        values = ()
        for v in tl.static_range(BASE):
            values = values + (selected(below, carries[1], v, 1, ADDENDS),)
    return values


@triton.jit
def rests_of(position, rows, rest, J: tl.constexpr, SIZES: tl.constexpr):
    """F_{J + 2}(rest - v) by v."""
    BASE: tl.constexpr = SIZES.BASE
    if SIZES.KEPT:
        ascending = kept(rows.scratch, table_entry(J + 2, SIZES.ADDENDS, BASE) - (BASE - 1) + rest, BASE)
    else:
        LIMIT: tl.constexpr = (SIZES.ADDENDS - J) * (BASE - 1) + 1
        none = tl.zeros(rest.shape, tl.float64)
        ascending = shifted(position.tables[J], rest, none, 1 - BASE, BASE, LIMIT)
    values = ()
    for v in tl.static_range(BASE):
        values = values + (ascending[BASE - 1 - v],)
    return values
