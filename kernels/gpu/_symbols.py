"""Rows of logits in registers: one thread holds all values of one symbol, as a tuple of BASE tensors of positions.

PAIRED moves two neighbouring values as one integer of twice their width: half the memory instructions, for even bases
and pointers aligned to two values.
"""

import triton
import triton.language as tl

from ._log2_semiring import LOG2_E


@triton.jit
def load_symbols(pointers, mask, BASE: tl.constexpr, PAIRED: tl.constexpr):
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
            values = values + (low, high)
    else:
        for a in tl.static_range(BASE):
            values = values + (tl.load(pointers + a, mask=mask, other=0.0),)
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


@triton.jit
def relative_log2(logits, COMPUTE: tl.constexpr, BASE: tl.constexpr):
    """Log2 probabilities up to a constant (the largest is 0) and the sum of their exponentials.

    The sum is NaN exactly when a logit is NaN or +inf, or all are -inf.
    """
    high = logits[0].to(COMPUTE)
    for a in tl.static_range(1, BASE):
        high = tl.maximum(high, logits[a].to(COMPUTE))
    relative = ()
    total = tl.zeros_like(high)
    for a in tl.static_range(BASE):
        # Subtract first: scaling large logits before the difference would round away its low bits.
        value = (logits[a].to(COMPUTE) - high) * LOG2_E
        total += tl.exp2(value)
        relative = relative + (value,)
    return relative, total


@triton.jit
def reflect(values, digit, BASE: tl.constexpr):
    """values[(digit - j) mod BASE] for j = 0 .. BASE - 1: a barrel shifter, its own inverse."""
    rotated = ()
    for j in tl.static_range(BASE):
        rotated = rotated + (values[(BASE - j) % BASE],)
    for bit in tl.static_range(5):
        if (1 << bit) < BASE:
            shift = (digit & (1 << bit)) != 0
            step = ()
            for j in tl.static_range(BASE):
                step = step + (tl.where(shift, rotated[(j + BASE - (1 << bit)) % BASE], rotated[j]),)
            rotated = step
    return rotated
