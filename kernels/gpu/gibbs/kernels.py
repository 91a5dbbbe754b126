"""Kernels of gibbs. A lane is a chain; what it holds, values and counts, lies in a column of its program's scratch memory.

Scratch, int8: for every group and value how many members have it, [n_groups * K], then the value of every symbol, [n];
LANES = ROWS * CHAINS entries each. Every thread reads back what it wrote itself.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import uniforms_float32


@triton.jit
def _conflicts(counts_ptr, n_entries, zero, LANES: tl.constexpr):
    """Pairs of equal members, summed over the groups."""
    pairs = zero
    for index in range(n_entries):
        count = tl.load(counts_ptr + index * LANES).to(tl.int32)
        pairs += count * (count - 1)
    return pairs // 2


@triton.jit
def _conditional(
    prior_ptr, factors_ptr, groups_ptr, counts_ptr, held, inside, K: tl.constexpr, DEGREE: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """Weights of a symbol's values given all others, and their sum."""
    weights = ()
    total = tl.zeros(held.shape, tl.float32)
    for v in tl.static_range(K):
        conflicts = tl.zeros(held.shape, tl.int32)
        own = tl.where(held == v, 1, 0)
        for j in tl.static_range(DEGREE):
            group = tl.load(groups_ptr + j)
            if group >= 0:
                conflicts += tl.load(counts_ptr + (group * K + v) * LANES).to(tl.int32) - own
        weight = tl.load(prior_ptr + v, mask=inside, other=1.0) * tl.load(factors_ptr + conflicts)
        total += weight
        weights = weights + (weight,)
    return weights, total


@triton.jit
def _draw(weights, threshold, K: tl.constexpr):
    """The number of running sums of weights, but the last, that the threshold reaches."""
    drawn = tl.zeros(threshold.shape, tl.int32)
    running = tl.zeros(threshold.shape, tl.float32)
    for v in tl.static_range(K - 1):
        running += weights[v]
        drawn += tl.where(running <= threshold, 1, 0)
    return drawn


@triton.jit
def _move(groups_ptr, counts_ptr, value_ptr, held, drawn, K: tl.constexpr, DEGREE: tl.constexpr, LANES: tl.constexpr):
    """Count the symbol under its new value instead of its old one, if it had one. All reads come before all writes."""
    old = ()
    new = ()
    for j in tl.static_range(DEGREE):
        group = tl.maximum(tl.load(groups_ptr + j), 0)
        old = old + (tl.load(counts_ptr + (group * K + tl.maximum(held, 0)) * LANES),)
        new = new + (tl.load(counts_ptr + (group * K + drawn) * LANES),)
    tl.debug_barrier()
    for j in tl.static_range(DEGREE):
        group = tl.load(groups_ptr + j)
        if group >= 0:
            moved = held != drawn
            tl.store(counts_ptr + (group * K + held) * LANES, old[j] - 1, mask=moved & (held >= 0))
            tl.store(counts_ptr + (group * K + drawn) * LANES, new[j] + 1, mask=moved)
    tl.store(value_ptr, drawn.to(tl.int8))
    tl.debug_barrier()


@triton.jit
def _sweep(
    prior_ptr, factors_ptr, memberships_ptr, marginals_ptr, counts_ptr, values_ptr, n, seed, t, row, inside, recording,
    K: tl.constexpr, DEGREE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Draw every symbol once; if recording, add the conditionals to the marginals of each row."""
    for block in range(tl.cdiv(n, 4)):
        uniforms = uniforms_float32(seed, block, t, row)
        for j in tl.static_range(4):
            i = block * 4 + j
            if i < n:
                groups_ptr = memberships_ptr + i * DEGREE
                value_ptr = values_ptr + i * LANES
                held = tl.load(value_ptr).to(tl.int32)
                weights, total = _conditional(
                    prior_ptr + i * K, factors_ptr, groups_ptr, counts_ptr, held, inside, K, DEGREE, LANES
                )
                drawn = _draw(weights, uniforms[j] * total, K)
                _move(groups_ptr, counts_ptr, value_ptr, held, drawn, K, DEGREE, LANES)
                if recording:
                    scale = tl.where(inside, tl.div_rn(1.0, total), 0.0)
                    for v in tl.static_range(K):
                        tl.atomic_add(marginals_ptr + i * K + v, tl.sum(weights[v] * scale, 1), sem="relaxed")


@triton.jit(do_not_specialize=["batch", "n", "n_groups", "chains", "sweeps", "recorded", "seed", "first_row"])
def run_kernel(
    prior_ptr, factors_ptr, memberships_ptr, marginals_ptr, annealing_ptr, final_ptr, scratch_ptr,
    batch, n, n_groups, chains, sweeps, recorded, columns, scratch, seed, first_row,
    K: tl.constexpr, DEGREE: tl.constexpr, ROWS: tl.constexpr, CHAINS: tl.constexpr,
):  # fmt: skip
    """All sweeps of ROWS rows, CHAINS chains of each at a time; rows beyond the last repeat it and are dropped.

    Grid (programs,), ROWS rows after ROWS rows. prior and marginals [batch, n, K], annealing and final [batch, chains].
    """
    LANES: tl.constexpr = ROWS * CHAINS
    lane = tl.arange(0, ROWS)[:, None] * CHAINS + tl.arange(0, CHAINS)[None, :]
    counts_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * scratch + lane
    values_ptr = counts_ptr + n_groups * K * LANES
    zero = tl.zeros((ROWS, CHAINS), tl.int32)
    for task in range(tl.program_id(0), tl.cdiv(batch, ROWS), tl.num_programs(0)):
        rows = task * ROWS + tl.arange(0, ROWS).to(tl.int64)
        own_ptr = marginals_ptr + tl.minimum(rows, batch - 1) * (n * K)
        row = rows[:, None]
        for first_chain in range(0, chains, CHAINS):
            chain = first_chain + tl.arange(0, CHAINS)[None, :]
            inside = (row < batch) & (chain < chains)
            for index in range(n_groups * K):
                tl.store(counts_ptr + index * LANES, zero.to(tl.int8))
            for i in range(n):
                tl.store(values_ptr + i * LANES, (zero - 1).to(tl.int8))
            tl.debug_barrier()
            annealing = zero.to(tl.int64)
            for sweep in range(sweeps + 1):
                if (sweep > 0) & (sweep <= tl.maximum(sweeps - recorded, 1)):
                    annealing += _conflicts(counts_ptr, n_groups * K, zero, LANES)
                _sweep(
                    prior_ptr + row * (n * K), factors_ptr + sweep * columns, memberships_ptr, own_ptr, counts_ptr,
                    values_ptr, n, seed, (chain << 16) + sweep, first_row.to(tl.int64) + row, inside,
                    sweep > sweeps - recorded, K, DEGREE, LANES,
                )  # fmt: skip
            out = row * chains + chain
            tl.store(annealing_ptr + out, annealing, mask=inside)
            tl.store(final_ptr + out, _conflicts(counts_ptr, n_groups * K, zero, LANES).to(tl.int64), mask=inside)
            tl.debug_barrier()
