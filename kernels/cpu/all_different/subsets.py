"""Permanents and minors by sums over subsets of values, for float32 or float64 that neither over- nor underflow.

With the members of a factor in a fixed order, F(S) = sum over v in S of F(S - v) n_{|S|-1}(v), likewise G(S) from the
full set down, and the minor of member i and value v is the sum of F(S) G(S + v) over the S of size i without v: three
multiply-adds for each S and v. G overwrites F, block by block.
"""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.all_different.blocks import (
    BLOCK,
    LOW,
    add_from,
    add_minors_from,
    add_minors_within,
    add_within,
    store_block,
    unit_block,
)
from emnesy_gpu.kernels.cpu.common.compile import lane_function


@lane_function
def size_of(subset):
    """The number of members of a subset, an integer whose bits they are."""
    size = 0
    while subset:
        subset &= subset - 1
        size += 1
    return size


@lane_function
def permanent_of(work, subsets, at, half, semiring):
    """F of every subset, for half the lanes; the last one is the permanent."""
    side = at.side
    matrix, step = 2 * at.matrix + half, 2 * side
    for high in range(1 << (side - LOW)):
        block, size = unit_block(subsets, 0 if high == 0 else -1), size_of(high)
        for v in range(LOW, side):
            before = high & ~(1 << (v - LOW))
            if before != high:
                row = matrix + (size - 1) * step + 2 * v
                block = add_from(block, subsets, before * BLOCK, work, row, step, semiring)
        block = add_within(block, work, matrix + size * step, step, semiring)
        store_block(subsets, high * BLOCK, block)
    lanes = work.shape[1] // 2
    for lane in range(lanes):
        work[at.permanent, half * lanes + lane] = subsets[len(subsets) - 1, lanes + lane]


@lane_function
def minors_of(work, subsets, at, half, semiring):
    """Adds to the minors, for half the lanes, and leaves G in place of F."""
    side = at.side
    step, to_minors = 2 * side, 2 * (at.minors - at.matrix)
    everything = (1 << (side - LOW)) - 1
    for high in range(everything, -1, -1):
        block, own = unit_block(subsets, BLOCK - 1 if high == everything else -1), high * BLOCK
        rows = 2 * at.matrix + half + size_of(high) * step
        for v in range(LOW, side):
            after = high | 1 << (v - LOW)
            if after != high:
                row = rows + 2 * v
                block = add_minors_from(block, subsets, own, after * BLOCK, work, row, row + to_minors, step, semiring)
        block = add_minors_within(block, subsets, own, work, rows, rows + to_minors, step, semiring)
        store_block(subsets, own, block)
