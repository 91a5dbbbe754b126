"""Rows of values in memory <-> registers where a thread holds whole rows, as a tuple of tensors [S, L].

A tile [S, L, RUN, BASE] moves in pieces of 2**i values (10 = 8 + 2), so that loads and stores stay wide and coalesced;
the compiler transposes each piece between its memory layout and RUN rows per thread.
"""

import triton
import triton.language as tl


@triton.jit
def unpack(tile, WIDTH: tl.constexpr):
    """[S, L, WIDTH] -> WIDTH tensors [S, L]."""
    if WIDTH == 1:
        return (tl.reshape(tile, (tile.shape[0], tile.shape[1])),)
    else:
        even, odd = tl.split(tl.reshape(tile, (tile.shape[0], tile.shape[1], WIDTH // 2, 2)))
        evens = unpack(even, WIDTH // 2)
        odds = unpack(odd, WIDTH // 2)
        values = ()
        for i in tl.static_range(WIDTH // 2):
            values = values + (evens[i], odds[i])
        return values


@triton.jit
def _pack(values, FIRST: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr):
    """WIDTH tensors [S, L], from the FIRST in steps of STEP -> [S, L, WIDTH]."""
    if WIDTH == 1:
        return tl.expand_dims(values[FIRST], 2)
    else:
        even = _pack(values, FIRST, 2 * STEP, WIDTH // 2)
        odd = _pack(values, FIRST + STEP, 2 * STEP, WIDTH // 2)
        return tl.reshape(tl.join(even, odd), (even.shape[0], even.shape[1], WIDTH))


@triton.jit
def _load_piece(pointers, mask, FIRST: tl.constexpr, WIDTH: tl.constexpr):
    columns = FIRST + tl.arange(0, WIDTH)
    tile = tl.load(pointers[:, :, :, None] + columns[None, None, None, :], mask=mask[:, :, :, None], other=0.0)
    RUN: tl.constexpr = tile.shape[2]
    return unpack(tl.reshape(tile, (tile.shape[0], tile.shape[1], RUN * WIDTH)), RUN * WIDTH)


@triton.jit
def _store_piece(pointers, values, mask, FIRST: tl.constexpr, WIDTH: tl.constexpr):
    columns = FIRST + tl.arange(0, WIDTH)
    RUN: tl.constexpr = pointers.shape[2]
    tile = tl.reshape(_pack(values, 0, 1, RUN * WIDTH), (pointers.shape[0], pointers.shape[1], RUN, WIDTH))
    tl.store(pointers[:, :, :, None] + columns[None, None, None, :], tile, mask=mask[:, :, :, None])


@triton.jit
def load_rows(pointers, mask, BASE: tl.constexpr):
    """The BASE values from each pointer of [S, L, RUN], 0 where masked: RUN tuples of BASE tensors [S, L]."""
    RUN: tl.constexpr = pointers.shape[2]
    rows = ((),) * RUN
    for bit in tl.static_range(5, -1, -1):
        if (BASE >> bit) & 1:
            piece = _load_piece(pointers, mask, (BASE >> (bit + 1)) << (bit + 1), 1 << bit)
            longer = ()
            for e in tl.static_range(RUN):
                longer = longer + (rows[e] + piece[e << bit : (e + 1) << bit],)
            rows = longer
    return rows


@triton.jit
def store_rows(pointers, rows, mask, BASE: tl.constexpr):
    """The inverse of load_rows."""
    RUN: tl.constexpr = pointers.shape[2]
    for bit in tl.static_range(5, -1, -1):
        if (BASE >> bit) & 1:
            piece = ()
            for e in tl.static_range(RUN):
                piece = piece + rows[e][(BASE >> (bit + 1)) << (bit + 1) : ((BASE >> (bit + 1)) << (bit + 1)) + (1 << bit)]
            _store_piece(pointers, piece, mask, (BASE >> (bit + 1)) << (bit + 1), 1 << bit)
