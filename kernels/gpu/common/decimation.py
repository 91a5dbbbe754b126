"""Fixes symbols of one row at a time, in a search for the most probable assignment: see emnesy_gpu.reference.decimation.

Each round takes beliefs and fixes the symbols that are certain, and of the others the one with the largest lead of its
best value over the second.
"""

import triton
import triton.language as tl

CERTAIN = tl.constexpr(0.999)  # as in emnesy_gpu.reference.decimation
TOLERANCE = tl.constexpr(1e-3)
NONE = tl.constexpr(1 << 30)


@triton.jit
def choose(beliefs_ptr, choice_ptr, top_ptr, n, K: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Stores the first best value of every open symbol [n], and its belief [n]; the choice of fixed ones is -1.

    Returns the first open symbol with the largest lead of its best value over the second.
    """
    value = tl.arange(0, WIDTH)[None, :]
    largest = tl.full((), -2.0, tl.float64)
    leader = tl.zeros((), tl.int32)
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        inside = (symbol < n) & (value < K)
        belief = tl.load(beliefs_ptr + symbol * K + value, mask=inside, other=-1.0).to(tl.float64)
        top = tl.max(belief, 1, keep_dims=True)
        best = tl.min(tl.where(belief == top, value, WIDTH - 1), 1, keep_dims=True)
        second = tl.max(tl.where(value == best, -1.0, belief), 1, keep_dims=True)
        before = tl.load(choice_ptr + symbol, mask=symbol < n, other=-1)
        is_open = (symbol < n) & (before >= 0)
        lead = tl.where(is_open, top - second, -1.0)
        tl.debug_barrier()
        tl.store(choice_ptr + symbol, tl.where(is_open, best, before), mask=symbol < n)
        tl.store(top_ptr + symbol, top, mask=symbol < n)
        high = tl.max(tl.max(lead, 1), 0)
        here = tl.min(tl.min(tl.where(is_open & (lead == high), symbol, NONE), 1), 0)
        leader = tl.where(high > largest, here, leader)
        largest = tl.maximum(largest, high)
    return leader


@triton.jit
def fix(symbols_ptr, choice_ptr, top_ptr, leader, n, K: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Fixes the symbols that are certain and the leader; returns how many stay open."""
    value = tl.arange(0, WIDTH)[None, :]
    left = tl.zeros((), tl.int32)
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        choice = tl.load(choice_ptr + symbol, mask=symbol < n, other=-1)
        top = tl.load(top_ptr + symbol, mask=symbol < n, other=0.0)
        is_open = choice >= 0
        fixed = is_open & ((top > CERTAIN) | (symbol == leader))
        excluded = fixed & (symbol < n) & (value < K) & (value != choice)
        tl.debug_barrier()
        tl.store(symbols_ptr + symbol * K + value, float("-inf"), mask=excluded)
        tl.store(choice_ptr + symbol, tl.full((TILE, 1), -1, tl.int32), mask=fixed & (symbol < n))
        left += tl.sum(tl.sum((is_open & ~fixed).to(tl.int32), 1), 0)
    return left


@triton.jit
def store_assignment(symbols_ptr, z_ptr, n, K: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """The first best value of every symbol that is left."""
    value = tl.arange(0, WIDTH)[None, :]
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        inside = (symbol < n) & (value < K)
        logits = tl.load(symbols_ptr + symbol * K + value, mask=inside, other=float("-inf"))
        high = tl.max(logits, 1, keep_dims=True)
        z = tl.min(tl.where(inside & (logits == high), value, WIDTH - 1), 1, keep_dims=True)
        tl.store(z_ptr + symbol, tl.minimum(z, K - 1).to(tl.int64), mask=symbol < n)
