"""Rows of logits in registers: one thread holds all values of one symbol, as a tuple of BASE tensors of positions.

PAIRED moves two neighbouring values as one integer of twice their width: half the memory instructions, for even bases
and pointers aligned to two values.
"""

import triton
import triton.language as tl


@triton.jit
def load_symbols(pointers, mask, COMPUTE: tl.constexpr, BASE: tl.constexpr, PAIRED: tl.constexpr):
    """The BASE values that start at each pointer, 0 where masked."""
    dtype: tl.constexpr = pointers.dtype.element_ty
    values = ()
    if PAIRED:
        bits: tl.constexpr = dtype.primitive_bitwidth
        half: tl.constexpr = tl.int32 if bits == 32 else tl.int16
        words = pointers.to(tl.pointer_type(tl.int64 if bits == 32 else tl.int32), bitcast=True)
        for i in tl.static_range(BASE // 2):
            word = tl.load(words + i, mask=mask, other=0)
            low = word.to(half).to(dtype, bitcast=True)
            high = (word >> bits).to(half).to(dtype, bitcast=True)
            values = values + (low.to(COMPUTE), high.to(COMPUTE))
    else:
        for a in tl.static_range(BASE):
            values = values + (tl.load(pointers + a, mask=mask, other=0.0).to(COMPUTE),)
    return values


@triton.jit
def store_symbols(pointers, values, mask, BASE: tl.constexpr, PAIRED: tl.constexpr):
    """The inverse of load_symbols."""
    dtype: tl.constexpr = pointers.dtype.element_ty
    if PAIRED:
        bits: tl.constexpr = dtype.primitive_bitwidth
        half: tl.constexpr = tl.uint32 if bits == 32 else tl.uint16
        whole: tl.constexpr = tl.uint64 if bits == 32 else tl.uint32
        words = pointers.to(tl.pointer_type(whole), bitcast=True)
        for i in tl.static_range(BASE // 2):
            low = values[2 * i].to(dtype).to(half, bitcast=True).to(whole)
            high = values[2 * i + 1].to(dtype).to(half, bitcast=True).to(whole)
            tl.store(words + i, low | (high << bits), mask=mask)
    else:
        for a in tl.static_range(BASE):
            tl.store(pointers + a, values[a], mask=mask)
