"""Vectors over the states of an automaton, for all rows of a program: where they lie, and how threads share them.

A vector is a tile [G, TILE, 4]: the R = 4 G rows of a state lie side by side in memory, and a thread takes four of them
at once. A thread has a few states, and as many groups of four rows as the threads leave over once each has a state.
What is looked up by state is read once for all rows of a thread; sums over states go through memory, where a thread
adds up many of them, since a butterfly of shuffles would cost more than the edges do.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.machine import Sizes
from emnesy_gpu.kernels.gpu.common.sum_product import one, over, plus_product, total, zero

SMALLEST = tl.constexpr(1.0e-37)
"""What is divided by is at least this, so that no reciprocal overflows; smaller sums count as zero."""


class Work(NamedTuple):
    """Scratch memory of a program: T positions of a block, S states, a state S that is always zero, R rows."""

    prior: object  # [T, K, R]
    weight: object  # [T, C + 1, R]: P; where each class has one value, the prior
    rest: object  # [T, C + 1, R]: r, in the place of P where that is not the prior
    scale: object  # [T, R]: 1 / z, and 1 / y once it is known; in log2 z and y
    alpha: object  # [T, S + 1, R]
    starts: object  # [blocks, S + 1, R]: alpha at the beginning of each block
    beta: object  # [2, S + 1, R]: o beta, that of position i at i % 2
    sums: object  # [LANES, CHUNK, R]
    seen: object  # [S + 1, R]: o of a position where the label has an entry
    kept: object  # [R]: 1 for rows whose prior is their result


@triton.jit
def work_of(scratch_ptr, n, block, SIZES: tl.constexpr):
    """Where everything lies in what a program has of the scratch memory; see `scratch_size`."""
    R: tl.constexpr = SIZES.rows
    rest = block * SIZES.n_values
    scale = rest + block * (SIZES.n_classes + 1)
    alpha = scale + block
    starts = alpha + block * (SIZES.n_states + 1)
    beta = starts + tl.cdiv(n, block) * (SIZES.n_states + 1)
    sums = beta + 2 * (SIZES.n_states + 1)
    seen = sums + SIZES.lanes * SIZES.chunk
    kept = seen + SIZES.n_states + 1
    scratch_ptr += tl.program_id(0).to(tl.int64) * (kept + 1) * R
    weight = scratch_ptr if SIZES.single else scratch_ptr + rest * R
    return Work(
        scratch_ptr, weight, scratch_ptr + rest * R, scratch_ptr + scale * R, scratch_ptr + alpha * R,
        scratch_ptr + starts * R, scratch_ptr + beta * R, scratch_ptr + sums * R,
        scratch_ptr + seen * R, scratch_ptr + kept * R,
    )  # fmt: skip


def scratch_size(n: int, block: int, sizes: Sizes) -> int:
    """Numbers of scratch memory for a program."""
    per_position = sizes.n_values + sizes.n_classes + 1 + 1 + sizes.n_states + 1
    vectors = -(-n // block) + 3
    return sizes.rows * (block * per_position + vectors * (sizes.n_states + 1) + sizes.lanes * sizes.chunk + 1)


@triton.jit
def weight_at(work, j, c, SIZES: tl.constexpr):
    """Where P_j(c) of the first row lies."""
    if SIZES.single:
        return work.weight + (j * SIZES.n_values + c) * SIZES.rows
    else:
        return work.weight + (j * (SIZES.n_classes + 1) + c) * SIZES.rows


@triton.jit
def rest_at(work, j, c, SIZES: tl.constexpr):
    """Where r_j(c) of the first row lies."""
    return work.rest + (j * (SIZES.n_classes + 1) + c) * SIZES.rows


@triton.jit
def vector_at(vectors, j, SIZES: tl.constexpr):
    """Where a vector begins."""
    return vectors + j * ((SIZES.n_states + 1) * SIZES.rows)


@triton.jit
def rows_of(SIZES: tl.constexpr):
    """The rows [G, 1, 4]."""
    WIDTH: tl.constexpr = min(SIZES.rows, 4)
    group = tl.arange(0, SIZES.rows // WIDTH)[:, None, None]
    return group * WIDTH + tl.arange(0, WIDTH)[None, None, :]


@triton.jit
def states_of(SIZES: tl.constexpr):
    """The states [1, TILE, 1], not known to be neighbours: threads with two of them would trade what they look up."""
    return tl.max_contiguous(tl.arange(0, SIZES.tile)[None, :, None], (1, 1, 1))


@triton.jit
def shared_states(SIZES: tl.constexpr):
    """The states [ROW_LANES, TILE] as threads take them that look up something for all their rows."""
    state = tl.max_contiguous(tl.arange(0, SIZES.tile)[None, :], (1, 1))
    return tl.broadcast_to(state, (SIZES.row_lanes, SIZES.tile))


@triton.jit
def for_rows(x, SIZES: tl.constexpr):
    """[ROW_LANES, TILE] to [G, TILE, 4], in the same threads."""
    WIDTH: tl.constexpr = min(SIZES.rows, 4)
    TIMES: tl.constexpr = SIZES.rows // (WIDTH * SIZES.row_lanes)
    x = tl.broadcast_to(x[None, :, :, None], (TIMES, SIZES.row_lanes, SIZES.tile, WIDTH))
    return tl.reshape(x, (SIZES.rows // WIDTH, SIZES.tile, WIDTH))


@triton.jit
def by_row(pointers, SIZES: tl.constexpr):
    """What [R] numbers are for every state: [G, TILE, 4]. A thread reads those of its rows once."""
    WIDTH: tl.constexpr = min(SIZES.rows, 4)
    G: tl.constexpr = SIZES.rows // WIDTH
    at = tl.broadcast_to(pointers + rows_of(SIZES), (G, SIZES.lanes, WIDTH))
    shape: tl.constexpr = (G, SIZES.tile // SIZES.lanes, SIZES.lanes, WIDTH)
    return tl.reshape(tl.broadcast_to(tl.load(at)[:, None, :, :], shape), (G, SIZES.tile, WIDTH))


@triton.jit
def store_vector(pointers, x, SIZES: tl.constexpr):
    """x [G, TILE, 4] to [S, R]."""
    state = states_of(SIZES)
    tl.store(pointers + state * SIZES.rows + rows_of(SIZES), x, mask=state < SIZES.n_states)


@triton.jit
def load_vector(pointers, SIZES: tl.constexpr, LOG: tl.constexpr):
    state = states_of(SIZES)
    return tl.load(pointers + state * SIZES.rows + rows_of(SIZES), mask=state < SIZES.n_states, other=zero(LOG))


@triton.jit
def clear_nowhere(work, block, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Zeros for the state S of all vectors that are looked up by state."""
    row = tl.arange(0, SIZES.rows)[None, :]
    nowhere = tl.full((SIZES.positions, SIZES.rows), zero(LOG), work.alpha.dtype.element_ty)
    for start in range(0, block, SIZES.positions):
        j = start + tl.arange(0, SIZES.positions)[:, None]
        tl.store(vector_at(work.alpha, j, SIZES) + SIZES.n_states * SIZES.rows + row, nowhere, mask=j < block)
    j = tl.arange(0, 2)[:, None]
    tl.store(vector_at(work.beta, j, SIZES) + SIZES.n_states * SIZES.rows + row, zero(LOG))


@triton.jit
def store_sums(work, x, place, SIZES: tl.constexpr, LOG: tl.constexpr):
    """x [G, TILE, 4], summed over the states of a thread, as number `place` of those that are summed together."""
    WIDTH: tl.constexpr = min(SIZES.rows, 4)
    G: tl.constexpr = SIZES.rows // WIDTH
    x = tl.reshape(x, (G, SIZES.tile // SIZES.lanes, SIZES.lanes, WIDTH))
    sums = tl.reshape(total(x, 1, LOG, False), (G, SIZES.lanes, WIDTH))
    lane = tl.max_contiguous(tl.arange(0, SIZES.lanes)[None, :, None], (1, 1, 1))
    tl.store(work.sums + (lane * SIZES.chunk + place) * SIZES.rows + rows_of(SIZES), sums)


@triton.jit
def sum_of_states(work, x, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The sums [1, R] of x [G, TILE, 4] over all states."""
    store_sums(work, x, 0, SIZES, LOG)
    tl.debug_barrier()
    lane = tl.arange(0, SIZES.lanes)[:, None]
    row = tl.max_contiguous(tl.arange(0, SIZES.rows)[None, :], (1, 1))
    return total(tl.load(work.sums + lane * (SIZES.chunk * SIZES.rows) + row), 0, LOG, False)


@triton.jit
def sums_of_chunk(work, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The sums [CHUNK, R] over all states of what was stored at each place before the last barrier; any number else."""
    part = tl.arange(0, SIZES.parts)[:, None, None]
    place = tl.arange(0, SIZES.chunk)[None, :, None]
    row = tl.arange(0, SIZES.rows)[None, None, :]
    pointers = work.sums + (part * SIZES.chunk + place) * SIZES.rows + row
    sums = tl.load(pointers)
    for lane in tl.range(SIZES.parts, SIZES.lanes, SIZES.parts, loop_unroll_factor=4):
        x = tl.load(pointers + lane * (SIZES.chunk * SIZES.rows))
        sums = plus_product(sums, x, one(LOG), LOG, False)
    return tl.reshape(total(sums, 0, LOG, False), (SIZES.chunk, SIZES.rows))


@triton.jit
def divisor(sums, LOG: tl.constexpr):
    """What `scaled` divides by `sums` with: the reciprocal; in log2 the sums."""
    return sums if LOG else 1.0 / tl.maximum(sums, SMALLEST)


@triton.jit
def scaled(x, divided_by, LOG: tl.constexpr):
    """x over the sums of a `divisor`."""
    return over(x, divided_by, LOG) if LOG else x * divided_by
