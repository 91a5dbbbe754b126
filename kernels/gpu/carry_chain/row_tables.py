"""Holds rows of the batch, a thread each: their logits and tables are tuples of tensors [ROWS, 1], in registers."""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.symbol_tiles import load_symbols


class Rows(NamedTuple):
    """Rows of the batch, tensors [ROWS, 1]."""

    logits: object  # pointers to [ADDENDS, n_digits, BASE]
    label: object  # pointers to [n_digits], without the leading digits
    digits: object  # pointers to int64 [ADDENDS, n_digits]
    present: object  # false past the end of the batch


class Sizes(NamedTuple):
    """Known at compile time."""

    ADDENDS: tl.constexpr
    BASE: tl.constexpr
    COMPUTE: tl.constexpr  # type of the logits


@triton.jit
def load_position(rows, i, n_digits, SIZES: tl.constexpr):
    """The logits of every symbol of a position."""
    symbols = ()
    for j in tl.static_range(SIZES.ADDENDS):
        pointers = rows.logits + (j * n_digits + i) * SIZES.BASE
        symbols = symbols + (load_symbols(pointers, rows.present, SIZES.COMPUTE, SIZES.BASE),)
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
