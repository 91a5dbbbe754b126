"""Runs annealed Gibbs chains on any score. A lane is a chain with one of the values of the symbol that is drawn.

A symbol takes value v with a probability in proportion to prior(v) factor(constraints that are violated with v). All
lanes of a chain hold the values of its symbols, each in a column of its own: every thread reads back what it wrote.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import Counter, upper_bits
from emnesy_gpu.kernels.gpu.scored.scores import Row, Symbols, satisfied

ONE = tl.constexpr(16777215.0)  # the weight of the most probable value
ROUNDING = tl.constexpr(6755399441055744.0)  # 1.5 * 2^52: to add and subtract it rounds to an integer
UNIFORM_BITS = tl.constexpr(23)
CONDITIONAL = tl.constexpr(2147483648.0)  # the conditional probability 1


class Options(NamedTuple):
    """What a kernel is compiled for."""

    K: tl.constexpr  # values
    CHAINS: tl.constexpr  # at once
    WIDTH: tl.constexpr  # lanes of a chain, a power of two of at least K
    SCORE: tl.constexpr
    SIZES: tl.constexpr
    FUNCTION: tl.constexpr


@triton.jit
def _integer(x):
    """Round to the nearest integer, ties to the even one."""
    return (x.to(tl.float64) + ROUNDING - ROUNDING).to(tl.int64)


@triton.jit
def _weights(prior, symbols, row, factors_ptr, value, scored, OPTIONS: tl.constexpr):
    """Integer weights [CHAINS, WIDTH] of the values of a symbol, the largest of which is ONE."""
    weights = _integer(prior * ONE)
    if scored:
        score = satisfied(symbols, row, OPTIONS.SCORE, OPTIONS.SIZES, OPTIONS.FUNCTION)
        relative = prior.to(tl.float64) * tl.load(factors_ptr + (row.n_constraints - score))
        weights = _integer(relative / tl.max(relative, 1, keep_dims=True) * ONE)
    return tl.where(value < OPTIONS.K, weights, 0)


@triton.jit
def _draw(prior_ptr, held_ptr, row, factors_ptr, counter, i, scored, value, OPTIONS: tl.constexpr):
    """Draws symbol i of every chain. Returns its conditionals, int64 [CHAINS, WIDTH]."""
    LANES: tl.constexpr = OPTIONS.CHAINS * OPTIONS.WIDTH
    prior = tl.load(prior_ptr + i * OPTIONS.K + value, mask=value < OPTIONS.K, other=0.0)
    symbols = Symbols(held_ptr, i, tl.minimum(value, OPTIONS.K - 1), LANES)
    weights = _weights(prior, symbols, row, factors_ptr, value, scored, OPTIONS)
    running = tl.cumsum(weights, 1)
    total = tl.sum(weights, 1, keep_dims=True)
    threshold = (upper_bits(counter, i) * total) >> UNIFORM_BITS
    drawn = tl.sum(((running <= threshold) & (value < OPTIONS.K - 1)).to(tl.int32), 1, keep_dims=True)
    tl.debug_barrier()
    tl.store(held_ptr + i * LANES, (drawn + value * 0).to(tl.int16))
    tl.debug_barrier()
    return _integer(weights.to(tl.float32) * (tl.div_rn(1.0, total.to(tl.float32)) * CONDITIONAL))


@triton.jit
def _violated(held_ptr, row, value, OPTIONS: tl.constexpr):
    """Violated constraints of every chain, int64 [CHAINS, WIDTH]."""
    symbols = Symbols(held_ptr, -1, value, OPTIONS.CHAINS * OPTIONS.WIDTH)
    score = satisfied(symbols, row, OPTIONS.SCORE, OPTIONS.SIZES, OPTIONS.FUNCTION)
    return (row.n_constraints - score).to(tl.int64)


@triton.jit(
    do_not_specialize=[
        "batch", "n", "n_entries", "n_constraints", "room", "chains", "parts", "sweeps", "annealing", "penalised", "seed",
        "first_row",
    ]
)  # fmt: skip
def chains_kernel(
    prior_ptr, label_ptr, factors_ptr, table_0, table_1, table_2, sums_ptr, before_ptr, final_ptr, held_ptr, scratch_ptr,
    batch, n, n_entries, n_constraints, room, chains, parts, sweeps, annealing, penalised, seed, first_row,
    SCORE: tl.constexpr, SIZES: tl.constexpr, FUNCTION: tl.constexpr, K: tl.constexpr, CHAINS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All sweeps of CHAINS chains of one row: a task.

    Grid (programs,), task after task, of which a row has `parts`. prior and sums [batch, n, K], label [batch,
    n_entries], factors [annealing + 1, n_constraints + 1], before and final [batch, chains], held int16 [programs, n,
    CHAINS * WIDTH], scratch int32 [programs, room, CHAINS * WIDTH].
    """
    OPTIONS: tl.constexpr = Options(K, CHAINS, WIDTH, SCORE, SIZES, FUNCTION)
    LANES: tl.constexpr = CHAINS * WIDTH
    value = tl.arange(0, CHAINS)[:, None] * 0 + tl.arange(0, WIDTH)[None, :]
    lane = tl.arange(0, CHAINS)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    held_ptr += tl.program_id(0).to(tl.int64) * n * LANES + lane
    scratch_ptr += tl.program_id(0).to(tl.int64) * room * LANES + lane
    for task in range(tl.program_id(0), batch * parts, tl.num_programs(0)):
        number = (task // parts).to(tl.int64)
        chain = task % parts * CHAINS + tl.arange(0, CHAINS)[:, None] + value * 0
        tables = table_0, table_1, table_2
        row = Row(label_ptr + number * n_entries, tables, number, batch, n, n_constraints, scratch_ptr)
        before = tl.zeros((CHAINS, WIDTH), tl.int64)
        for sweep in range(sweeps + 1):
            if (sweep > 0) & (sweep <= annealing):
                before += _violated(held_ptr, row, value, OPTIONS)
            own_factors = factors_ptr + tl.minimum(sweep, annealing) * (n_constraints + 1)
            counter = Counter(seed, (chain << 16) + sweep, first_row.to(tl.int64) + number)
            for i in range(n):
                conditionals = _draw(
                    prior_ptr + number * n * K, held_ptr, row, own_factors, counter, i,
                    (sweep > 0) & (penalised > 0), value, OPTIONS,
                )  # fmt: skip
                if sweep > sweeps // 2:
                    added = tl.sum(tl.where(chain < chains, conditionals, 0), 0)
                    out = (number * n + i) * K + tl.arange(0, WIDTH)
                    tl.atomic_add(sums_ptr + out, added, mask=tl.arange(0, WIDTH) < K, sem="relaxed")
        first = (value == 0) & (chain < chains)
        tl.store(before_ptr + number * chains + chain, before, mask=first)
        tl.store(final_ptr + number * chains + chain, _violated(held_ptr, row, value, OPTIONS), mask=first)
        tl.debug_barrier()
