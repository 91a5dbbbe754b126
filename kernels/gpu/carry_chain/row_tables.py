"""Holds rows of the batch, a thread each: their logits and tables are tuples of tensors [ROWS, 1], in registers.

A table that would not fit there is kept in scratch memory, with entries beyond both of its ends. A thread reads what
itself has written, so that nothing waits.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels import carry_chain_config
from emnesy_gpu.kernels.gpu.carry_chain.symbol_tiles import load_symbols

AT_ONCE = tl.constexpr(carry_chain_config.AT_ONCE)
rest_of_blocks = triton.constexpr_function(carry_chain_config.rest_of_blocks)
table_entry = triton.constexpr_function(carry_chain_config.table_entry)


class Rows(NamedTuple):
    """Rows of the batch, tensors [ROWS, 1]."""

    logits: object  # pointers to [ADDENDS, n_digits, BASE]
    label: object  # pointers to [n_digits], without the leading digits
    digits: object  # pointers to int64 [ADDENDS, n_digits]
    present: object  # false past the end of the batch
    scratch: object  # pointers to [entries, ROWS] of the program, if KEPT
    base: object  # BASE, for loops that the compiler would unroll


class Sizes(NamedTuple):
    """Known at compile time."""

    ADDENDS: tl.constexpr
    BASE: tl.constexpr
    COMPUTE: tl.constexpr  # type of the logits
    KEPT: tl.constexpr  # whether tables are in scratch memory
    LOGITS_KEPT: tl.constexpr  # whether logits are there too


@triton.jit
def load_symbol(rows, j, i, n_digits, SIZES: tl.constexpr):
    """The logits of addend j of a position."""
    return load_symbols(rows.logits + (j * n_digits + i) * SIZES.BASE, rows.present, SIZES.COMPUTE, SIZES.BASE)


@triton.jit
def load_position(rows, i, n_digits, SIZES: tl.constexpr):
    """The logits of every symbol of a position."""
    symbols = ()
    for j in tl.static_range(SIZES.ADDENDS):
        symbols = symbols + (load_symbol(rows, j, i, n_digits, SIZES),)
    return symbols


@triton.jit
def shifted(values, by, none, LOW: tl.constexpr, COUNT: tl.constexpr, LIMIT: tl.constexpr):
    """values[by + LOW], ... COUNT entries, `none` outside, for by below LIMIT, 32 at most: a barrel shifter."""
    LENGTH: tl.constexpr = len(values)
    window = ()
    for u in tl.static_range(LOW, LOW + COUNT + 31):
        window = window + ((values[u],) if (u >= 0) & (u < LENGTH) else (none,))
    for bit in tl.static_range(4, -1, -1):
        if (1 << bit) < LIMIT:
            shift = (by & (1 << bit)) != 0
            step = ()
            for u in tl.static_range(COUNT + (1 << bit) - 1):
                step = step + (tl.where(shift, window[u + (1 << bit)], window[u]),)
            window = step
    return window


@triton.jit
def scratch_of(scratch_ptr, ENTRIES: tl.constexpr, ROWS: tl.constexpr):
    """Pointers [ROWS, 1] to the scratch memory of the program, float64 [ENTRIES, ROWS]."""
    return scratch_ptr + (tl.program_id(0).to(tl.int64) * (ENTRIES * ROWS) + tl.arange(0, ROWS)[:, None])


@triton.jit
def without_first(values):
    """A tuple less its first entry."""
    others = ()
    for v in tl.static_range(1, len(values)):
        others = others + (values[v],)
    return others


@triton.jit
def without_last(values):
    """A tuple less its last entry."""
    others = ()
    for v in tl.static_range(len(values) - 1):
        others = others + (values[v],)
    return others


@triton.jit
def keep(scratch, values, first):
    """Leaves values in scratch memory, from the entry `first` on."""
    pointers = scratch + first * scratch.shape[0]
    # The assembler sees no loop. Triton would compile minutes where every entry has a store or load of its own.
    for _ in range(len(values)):
        tl.store(pointers, values[0])
        values = without_first(values) + (values[0],)
        pointers += scratch.shape[0]


@triton.jit
def keep_everywhere(scratch, value, COUNT: tl.constexpr):
    """Leaves the value in the first COUNT entries of scratch memory."""
    for u in range(COUNT):
        tl.store(scratch + u * scratch.shape[0], value)


@triton.jit
def kept(scratch, first, COUNT: tl.constexpr):
    """COUNT values from scratch memory, from the entry `first` of each row on."""
    pointers = scratch + first * scratch.shape[0]
    values = ()
    for _ in tl.static_range(COUNT):
        values = values + (tl.zeros(pointers.shape, scratch.dtype.element_ty),)
    for _ in range(COUNT):
        values = without_first(values) + (tl.load(pointers),)
        pointers += scratch.shape[0]
    return values


@triton.jit
def keep_symbol(rows, j, i, n_digits, first, SIZES: tl.constexpr):
    """Leaves the logits of addend j of a position in scratch memory, from the entry `first` of each row on."""
    REST: tl.constexpr = rest_of_blocks(SIZES.BASE)
    logits = rows.logits + (j * n_digits + i) * SIZES.BASE
    for v in range(0, rows.base - REST, AT_ONCE):
        keep(rows.scratch, load_symbols(logits + v, rows.present, SIZES.COMPUTE, AT_ONCE), first + v)
    if REST > 0:
        v = SIZES.BASE - REST
        keep(rows.scratch, load_symbols(logits + v, rows.present, SIZES.COMPUTE, REST), first + v)
