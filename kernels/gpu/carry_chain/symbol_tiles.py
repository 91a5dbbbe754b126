"""Moves rows of logits between memory and registers: a thread holds a symbol, as a tuple of BASE tensors [S, P].

The tuple goes to and from memory in pieces of 2**i values (10 = 8 + 2), so that loads and stores stay wide and
coalesced; the compiler transposes each piece between its memory layout and one row a thread.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.tuples import interleaved


@triton.jit
def _unpack(tile, WIDTH: tl.constexpr):
    """[S, P, WIDTH] -> WIDTH tensors [S, P]."""
    if WIDTH == 1:
        return (tl.reshape(tile, (tile.shape[0], tile.shape[1])),)
    else:
        even, odd = tl.split(tl.reshape(tile, (tile.shape[0], tile.shape[1], WIDTH // 2, 2)))
        return interleaved(_unpack(even, WIDTH // 2), _unpack(odd, WIDTH // 2), WIDTH // 2)


@triton.jit
def _pack(values, FIRST: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr):
    """WIDTH tensors [S, P], from the FIRST in steps of STEP -> [S, P, WIDTH]."""
    if WIDTH == 1:
        return tl.expand_dims(values[FIRST], 2)
    else:
        even = _pack(values, FIRST, 2 * STEP, WIDTH // 2)
        odd = _pack(values, FIRST + STEP, 2 * STEP, WIDTH // 2)
        return tl.reshape(tl.join(even, odd), (even.shape[0], even.shape[1], WIDTH))


@triton.jit
def _load_piece(pointers, mask, FIRST: tl.constexpr, WIDTH: tl.constexpr):
    """WIDTH values, from the FIRST on, of the rows that start at pointers [S, P]: WIDTH tensors [S, P]."""
    columns = FIRST + tl.arange(0, WIDTH)[None, None, :]
    return _unpack(tl.load(pointers[:, :, None] + columns, mask=mask[:, :, None], other=0.0), WIDTH)


@triton.jit
def _store_piece(pointers, values, mask, FIRST: tl.constexpr, WIDTH: tl.constexpr):
    """The inverse of _load_piece."""
    columns = FIRST + tl.arange(0, WIDTH)[None, None, :]
    tl.store(pointers[:, :, None] + columns, _pack(values, FIRST, 1, WIDTH), mask=mask[:, :, None])


@triton.jit
def load_symbols(pointers, mask, COMPUTE: tl.constexpr, BASE: tl.constexpr):
    """The BASE logits, bounded, that start at each pointer of [S, P], 0 where masked."""
    loaded = ()
    for bit in tl.static_range(5, -1, -1):
        if (BASE >> bit) & 1:
            loaded = loaded + _load_piece(pointers, mask, (BASE >> (bit + 1)) << (bit + 1), 1 << bit)
    values = ()
    for a in tl.static_range(BASE):
        values = values + (bounded(loaded[a]).to(COMPUTE),)
    return values


@triton.jit
def store_symbols(pointers, values, mask, BASE: tl.constexpr):
    """The inverse of load_symbols."""
    for bit in tl.static_range(5, -1, -1):
        if (BASE >> bit) & 1:
            _store_piece(pointers, values, mask, (BASE >> (bit + 1)) << (bit + 1), 1 << bit)
