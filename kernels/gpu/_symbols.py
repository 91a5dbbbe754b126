"""Rows of logits in registers: one thread holds all values of one symbol, as a tuple of BASE tensors of positions.

The tuple goes to and from memory in pieces of 2**i values (10 = 8 + 2), so that loads and stores stay wide and
coalesced; the compiler transposes each piece between its memory layout and one row per thread.
"""

import triton
import triton.language as tl

from ._log2_semiring import LOG2_E


@triton.jit
def _unpack(tile, WIDTH: tl.constexpr):
    """[R, C, WIDTH] -> WIDTH tensors [R, C]."""
    if WIDTH == 1:
        return (tl.reshape(tile, (tile.shape[0], tile.shape[1])),)
    else:
        pairs = tl.reshape(tile, (tile.shape[0], tile.shape[1], WIDTH // 2, 2))
        even, odd = tl.split(pairs)
        evens = _unpack(even, WIDTH // 2)
        odds = _unpack(odd, WIDTH // 2)
        values = ()
        for i in tl.static_range(WIDTH // 2):
            values = values + (evens[i], odds[i])
        return values


@triton.jit
def _pack(values, START: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr):
    """The inverse of _unpack, for values[START], values[START + STEP], ..."""
    if WIDTH == 1:
        return tl.expand_dims(values[START], 2)
    else:
        even = _pack(values, START, 2 * STEP, WIDTH // 2)
        odd = _pack(values, START + STEP, 2 * STEP, WIDTH // 2)
        return tl.reshape(tl.join(even, odd), (even.shape[0], even.shape[1], WIDTH))


@triton.jit
def _load_piece(pointers, mask, START: tl.constexpr, WIDTH: tl.constexpr):
    columns = START + tl.arange(0, WIDTH)[None, None, :]
    return _unpack(tl.load(pointers[:, :, None] + columns, mask=mask[:, :, None], other=0.0), WIDTH)


@triton.jit
def _store_piece(pointers, values, mask, START: tl.constexpr, WIDTH: tl.constexpr):
    columns = START + tl.arange(0, WIDTH)[None, None, :]
    tl.store(pointers[:, :, None] + columns, _pack(values, START, 1, WIDTH), mask=mask[:, :, None])


@triton.jit
def load_symbols(pointers, mask, BASE: tl.constexpr):
    """The BASE values that start at each pointer of [R, C], 0 where masked."""
    values = ()
    for bit in tl.static_range(5, -1, -1):
        if (BASE >> bit) & 1:
            values = values + _load_piece(pointers, mask, (BASE >> (bit + 1)) << (bit + 1), 1 << bit)
    return values


@triton.jit
def store_symbols(pointers, values, mask, BASE: tl.constexpr):
    """The inverse of load_symbols."""
    for bit in tl.static_range(5, -1, -1):
        if (BASE >> bit) & 1:
            _store_piece(pointers, values, mask, (BASE >> (bit + 1)) << (bit + 1), 1 << bit)


@triton.jit
def softmax_log2(logits, COMPUTE: tl.constexpr, BASE: tl.constexpr):
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
