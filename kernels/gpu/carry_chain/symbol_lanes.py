"""Holds a position in a tile [1, SUMS] whose lanes have three roles, for max-product and samples of a row.

A lane has a symbol's value (symbol * BASE + value), a sum of digits, or a part of the values of d_1 for a carry out of
and a carry into the position ((out * ADDENDS + in) * PARTS + part). SUMS is at least ADDENDS * BASE, so that rotations
carry nothing but empty entries round the end of tables of d_2 + ... + d_k, d_3 + ... + d_k, ...
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.linear_sums import places
from emnesy_gpu.kernels.gpu.common.logits import bounded


class Sizes(NamedTuple):
    """Known at compile time."""

    ADDENDS: tl.constexpr
    BASE: tl.constexpr
    PARTS: tl.constexpr  # lanes for a carry out of and a carry into a position, a power of two


class Row(NamedTuple):
    """Pointers of a row of the batch."""

    logits: object  # [ADDENDS, n_digits, BASE]
    label: object  # [n_digits], without the leading digits
    digits: object  # int64 [ADDENDS, n_digits]
    n_digits: object


@triton.jit
def from_lane(table, lane):
    """table[lane mod SUMS] for every lane."""
    return tl.gather(table, lane & (table.shape[1] - 1), 1)


@triton.jit
def load_position(row, i, SUMS: tl.constexpr, SIZES: tl.constexpr):
    """The logits of position i by symbol and value, -inf in lanes without one."""
    lane = tl.arange(0, SUMS)[None, :]
    symbol = lane // SIZES.BASE
    pointers = row.logits + symbol * (row.n_digits * SIZES.BASE) + i * SIZES.BASE + (lane - symbol * SIZES.BASE)
    inside = lane < SIZES.ADDENDS * SIZES.BASE
    return bounded(tl.load(pointers, mask=inside, other=float("-inf")))


@triton.jit
def _ahead(own, STEP: tl.constexpr, BASE: tl.constexpr):
    """What the value STEP ahead of a lane's has, as on a ring; STEP is at most BASE."""
    lane = places(own)
    value = lane % BASE + STEP
    return from_lane(own, lane + STEP - tl.where(value < BASE, 0, BASE))


@triton.jit
def over_values(own, MAXIMUM: tl.constexpr, BASE: tl.constexpr):
    """In every lane of a symbol the sum, or the maximum, over its values: over windows of 1, 2, 4, ... of them."""
    total = own
    for bit in tl.static_range(6):
        if (BASE >> bit) & 1:
            if BASE % (1 << bit) == 0:
                total = own
            else:
                part = _ahead(own, BASE % (1 << bit), BASE)
                total = tl.maximum(total, part) if MAXIMUM else total + part
        if BASE >> (bit + 1):
            part = _ahead(own, 1 << bit, BASE)
            own = tl.maximum(own, part) if MAXIMUM else own + part
    return total
