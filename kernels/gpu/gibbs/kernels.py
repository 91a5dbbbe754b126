"""Runs annealed Gibbs chains. A lane is a chain; what it holds lies in a column of its program's scratch memory.

A symbol takes value v with a probability in proportion to prior(v) factors[conflicts], where the conflicts are the
members of its groups that have v now. Scratch, int8: for every group and value how many members have it, [n_groups *
K], then the value of every symbol, [n]; LANES = ROWS * CHAINS entries each. Every thread reads back what it wrote
itself.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import WORDS, Counter, uniforms_float32


class Options(NamedTuple):
    """Sizes known at compile time."""

    K: tl.constexpr  # values
    DEGREE: tl.constexpr  # groups of a symbol
    LANES: tl.constexpr  # chains at once


class Model(NamedTuple):
    """Where the rows [ROWS, 1] of a tile have their priors, and what they share."""

    prior: object  # float32 [n, K]
    factors: object  # float32 [columns], of one sweep
    memberships: object  # int32 [n, DEGREE], -1: none
    marginals: object  # float32 [n, K]: sums of conditionals
    n: object


class Chains(NamedTuple):
    """Where the chains keep what they hold; pointers [ROWS, CHAINS], entries are LANES apart."""

    counts: object  # int8 [n_groups * K]
    held: object  # int8 [n]


@triton.jit
def _conflicts(counts_ptr, n_entries, zero, LANES: tl.constexpr):
    """Pairs of equal members, summed over the groups: int32 [ROWS, CHAINS]."""
    pairs = zero
    for index in range(n_entries):
        count = tl.load(counts_ptr + index * LANES).to(tl.int32)
        pairs += count * (count - 1)
    return pairs // 2


@triton.jit
def _conditional(prior_ptr, factors_ptr, groups_ptr, counts_ptr, held, inside, OPTIONS: tl.constexpr):
    """Weights of a symbol's values given all others, a tuple of K tensors [ROWS, CHAINS], and their sum.

    The prior [K] and the groups [DEGREE] are those of the symbol.
    """
    weights = ()
    total = tl.zeros(held.shape, tl.float32)
    for v in tl.static_range(OPTIONS.K):
        conflicts = tl.zeros(held.shape, tl.int32)
        own = tl.where(held == v, 1, 0)
        for j in tl.static_range(OPTIONS.DEGREE):
            group = tl.load(groups_ptr + j)
            if group >= 0:
                conflicts += tl.load(counts_ptr + (group * OPTIONS.K + v) * OPTIONS.LANES).to(tl.int32) - own
        weight = tl.load(prior_ptr + v, mask=inside, other=1.0) * tl.load(factors_ptr + conflicts)
        total += weight
        weights = weights + (weight,)
    return weights, total


@triton.jit
def _draw(weights, threshold, K: tl.constexpr):
    """The number of running sums of the K weights, but the last, that the threshold reaches; all [ROWS, CHAINS]."""
    drawn = tl.zeros(threshold.shape, tl.int32)
    running = tl.zeros(threshold.shape, tl.float32)
    for v in tl.static_range(K - 1):
        running += weights[v]
        drawn += tl.where(running <= threshold, 1, 0)
    return drawn


@triton.jit
def _move(groups_ptr, counts_ptr, value_ptr, held, drawn, OPTIONS: tl.constexpr):
    """Count the symbol under its new value instead of its old one, if it had one. All reads come before all writes."""
    K: tl.constexpr = OPTIONS.K
    LANES: tl.constexpr = OPTIONS.LANES
    old = ()
    new = ()
    for j in tl.static_range(OPTIONS.DEGREE):
        group = tl.maximum(tl.load(groups_ptr + j), 0)
        old = old + (tl.load(counts_ptr + (group * K + tl.maximum(held, 0)) * LANES),)
        new = new + (tl.load(counts_ptr + (group * K + drawn) * LANES),)
    tl.debug_barrier()
    for j in tl.static_range(OPTIONS.DEGREE):
        group = tl.load(groups_ptr + j)
        if group >= 0:
            moved = held != drawn
            tl.store(counts_ptr + (group * K + held) * LANES, old[j] - 1, mask=moved & (held >= 0))
            tl.store(counts_ptr + (group * K + drawn) * LANES, new[j] + 1, mask=moved)
    tl.store(value_ptr, drawn.to(tl.int8))
    tl.debug_barrier()


@triton.jit
def _sweep(model, chains, counter, inside, recording, OPTIONS: tl.constexpr):
    """Draw every symbol once; if recording, add the conditionals to the marginals of each row."""
    K: tl.constexpr = OPTIONS.K
    for block in range(tl.cdiv(model.n, WORDS)):
        uniforms = uniforms_float32(counter, block)
        for j in tl.static_range(WORDS):
            i = block * WORDS + j
            if i < model.n:
                groups_ptr = model.memberships + i * OPTIONS.DEGREE
                value_ptr = chains.held + i * OPTIONS.LANES
                held = tl.load(value_ptr).to(tl.int32)
                prior_ptr = model.prior + i * K
                weights, total = _conditional(
                    prior_ptr, model.factors, groups_ptr, chains.counts, held, inside, OPTIONS
                )
                drawn = _draw(weights, uniforms[j] * total, K)
                _move(groups_ptr, chains.counts, value_ptr, held, drawn, OPTIONS)
                if recording:
                    scale = tl.where(inside, tl.div_rn(1.0, total), 0.0)
                    for v in tl.static_range(K):
                        tl.atomic_add(model.marginals + i * K + v, tl.sum(weights[v] * scale, 1), sem="relaxed")


@triton.jit
def _forget(chains, n_entries, n, zero, LANES: tl.constexpr):
    """No symbol has a value."""
    for index in range(n_entries):
        tl.store(chains.counts + index * LANES, zero.to(tl.int8))
    for i in range(n):
        tl.store(chains.held + i * LANES, (zero - 1).to(tl.int8))
    tl.debug_barrier()


@triton.jit(do_not_specialize=["batch", "n", "n_groups", "chains", "sweeps", "recorded", "seed", "first_row"])
def run_kernel(
    prior_ptr, factors_ptr, memberships_ptr, marginals_ptr, annealing_ptr, final_ptr, scratch_ptr,
    batch, n, n_groups, chains, sweeps, recorded, columns, scratch, seed, first_row,
    K: tl.constexpr, DEGREE: tl.constexpr, ROWS: tl.constexpr, CHAINS: tl.constexpr,
):  # fmt: skip
    """All sweeps of ROWS rows, CHAINS chains of each at a time; rows beyond the last repeat it and are dropped.

    Grid (programs,), ROWS rows after ROWS rows. prior and marginals [batch, n, K], annealing and final [batch, chains],
    factors [sweeps + 1, columns], scratch [programs, scratch]; other shapes as in Model.
    """
    LANES: tl.constexpr = ROWS * CHAINS
    OPTIONS: tl.constexpr = Options(K, DEGREE, LANES)
    lane = tl.arange(0, ROWS)[:, None] * CHAINS + tl.arange(0, CHAINS)[None, :]
    counts_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * scratch + lane
    tile = Chains(counts_ptr, counts_ptr + n_groups * K * LANES)
    zero = tl.zeros((ROWS, CHAINS), tl.int32)
    for task in range(tl.program_id(0), tl.cdiv(batch, ROWS), tl.num_programs(0)):
        rows = task * ROWS + tl.arange(0, ROWS).to(tl.int64)
        own_ptr = marginals_ptr + tl.minimum(rows, batch - 1) * (n * K)
        row = rows[:, None]
        for first_chain in range(0, chains, CHAINS):
            chain = first_chain + tl.arange(0, CHAINS)[None, :]
            inside = (row < batch) & (chain < chains)
            _forget(tile, n_groups * K, n, zero, LANES)
            annealing = zero.to(tl.int64)
            for sweep in range(sweeps + 1):
                if (sweep > 0) & (sweep <= tl.maximum(sweeps - recorded, 1)):
                    annealing += _conflicts(tile.counts, n_groups * K, zero, LANES)
                model = Model(prior_ptr + row * (n * K), factors_ptr + sweep * columns, memberships_ptr, own_ptr, n)
                counter = Counter(seed, (chain << 16) + sweep, first_row.to(tl.int64) + row)
                _sweep(model, tile, counter, inside, sweep > sweeps - recorded, OPTIONS)
            out = row * chains + chain
            tl.store(annealing_ptr + out, annealing, mask=inside)
            tl.store(final_ptr + out, _conflicts(tile.counts, n_groups * K, zero, LANES).to(tl.int64), mask=inside)
            tl.debug_barrier()
