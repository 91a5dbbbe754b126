"""Computes marginals given label 0, "not all neighbours differ", from those given label 1: see the reference.

One program takes one row of the batch at a time. Its symbols lie in tiles [TILE, WIDTH] of symbols and their values, all
numbers are float64. Logarithms are natural. What tiles have to know of each other lies in scratch memory.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2, log2_1p
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, POSSIBLE

NEG_INF = tl.constexpr(float("-inf"))
CERTAIN = tl.constexpr(1e-8)  # as in emnesy_gpu.reference.given_label
TERMS = tl.constexpr(18)  # of the series of exp(x) - 1, which leave 1e-18 of it at -1/2


class Row(NamedTuple):
    """A row of the batch, and the scratch memory of its program."""

    logits: object  # [n, k]
    valid: object  # [n, k]: marginals given label 1
    marginals: object  # [n, k]
    neighbours: object  # int32 [n, degree], -1: none
    free: object  # float64 [n, k]: log priors of values that no neighbour has as its mode; -inf for others and the mode
    singles: object  # float64 [n, k]: those of the others
    modes: object  # int32 [n]
    n: object
    k: object
    degree: object


class Options(NamedTuple):
    """Sizes known at compile time."""

    TILE: tl.constexpr
    WIDTH: tl.constexpr


@triton.jit
def exp(x):
    return exp2(x * LOG2_E)


@triton.jit
def log(x):
    """The natural logarithm of a number >= 0, also below 1 and of 0."""
    above = tl.where(x > 1e-290, x, 1.0)
    small = above < 1.0
    result = log2(tl.where(small, above * 2.0**1000, above)) - tl.where(small, 1000.0, 0.0)
    return tl.where(x > 1e-290, result * LN_2, NEG_INF)


@triton.jit
def _one_less_exp(x):
    """1 - exp(x) for x <= 0."""
    series = x * 0.0 + 1.0
    for i in tl.static_range(TERMS, 1, -1):
        series = 1.0 + tl.where(x > -0.5, x, 0.0) * series * (1.0 / i)
    return tl.where(x > -0.5, -x * series, 1.0 - exp(x))


@triton.jit
def _tile(row, first, OPTIONS: tl.constexpr):
    """The symbols from the first on [TILE, 1], the values [1, WIDTH], offsets, and where there are any."""
    symbol = first + tl.arange(0, OPTIONS.TILE)[:, None]
    value = tl.arange(0, OPTIONS.WIDTH)[None, :]
    return symbol, value, symbol * row.k + value, (symbol < row.n) & (value < row.k)


@triton.jit
def _log_prior(row, first, OPTIONS: tl.constexpr):
    """Log priors of a tile, -inf outside."""
    symbol, value, at, inside = _tile(row, first, OPTIONS)
    logits = bounded(tl.load(row.logits + at, mask=inside, other=NEG_INF)).to(tl.float64)
    high = tl.max(tl.where(symbol < row.n, logits, 0.0), 1, keep_dims=True)
    total = tl.sum(tl.where(symbol < row.n, exp(logits - high), 0.125), 1, keep_dims=True)
    return tl.where(inside, logits - high - log(total), NEG_INF)


@triton.jit
def _store_modes(row, OPTIONS: tl.constexpr):
    """Stores the first most probable value of every symbol; returns the expected number of other values."""
    mistakes = tl.zeros((), tl.float64)
    for first in range(0, row.n, OPTIONS.TILE):
        symbol, value, at, inside = _tile(row, first, OPTIONS)
        log_prior = _log_prior(row, first, OPTIONS)
        high = tl.max(log_prior, 1, keep_dims=True)
        mode = tl.min(tl.where(inside & (log_prior == high), value, OPTIONS.WIDTH - 1), 1, keep_dims=True)
        tl.store(row.modes + symbol, mode, mask=symbol < row.n)
        mistakes += tl.sum(tl.sum(tl.where(inside & (value != mode), exp(log_prior), 0.0), 1), 0)
    return mistakes


@triton.jit
def _store_mistakes(row, OPTIONS: tl.constexpr):
    """Stores free and singles; returns their largest sums for a mistake of one and of two, and whether modes differ."""
    high = tl.full((), NEG_INF, tl.float64)
    is_valid = 1
    for first in range(0, row.n, OPTIONS.TILE):
        symbol, value, at, inside = _tile(row, first, OPTIONS)
        log_prior = _log_prior(row, first, OPTIONS)
        mode = tl.load(row.modes + symbol, mask=symbol < row.n, other=0)
        met = inside & (value < 0)
        for s in range(row.degree):
            other = tl.load(row.neighbours + symbol * row.degree + s, mask=symbol < row.n, other=-1)
            met |= (other >= 0) & (value == tl.load(row.modes + other, mask=other >= 0, other=-1))
        is_valid &= 1 - tl.max(tl.max((inside & met & (value == mode)).to(tl.int32), 1), 0)
        singles = tl.where(met & (value != mode), log_prior, NEG_INF)
        tl.store(row.singles + at, singles, mask=inside)
        tl.store(row.free + at, tl.where(met | (value == mode), NEG_INF, log_prior), mask=inside)
        high = tl.maximum(high, tl.max(tl.max(singles, 1), 0))
    return high, is_valid


@triton.jit
def _doubles(row, first, shift, OPTIONS: tl.constexpr):
    """The sum over neighbours of exp(free of both - shift), by symbol and value, and the largest of these sums."""
    symbol, value, at, inside = _tile(row, first, OPTIONS)
    free = tl.load(row.free + at, mask=inside, other=NEG_INF)
    total = tl.zeros((OPTIONS.TILE, OPTIONS.WIDTH), tl.float64)
    high = tl.full((OPTIONS.TILE, OPTIONS.WIDTH), NEG_INF, tl.float64)
    for s in range(row.degree):
        other = tl.load(row.neighbours + symbol * row.degree + s, mask=symbol < row.n, other=-1)
        theirs = tl.load(row.free + other * row.k + value, mask=inside & (other >= 0), other=NEG_INF)
        total += exp(free + theirs - shift)
        high = tl.maximum(high, free + theirs)
    return total, tl.max(tl.max(high, 1), 0)


@triton.jit
def _mistakes(row, high, OPTIONS: tl.constexpr):
    """The largest logarithm of a mistake of one symbol or two (0 if there is none), and their sum relative to it."""
    for first in range(0, row.n, OPTIONS.TILE):
        _, highest = _doubles(row, first, 0.0, OPTIONS)
        high = tl.maximum(high, highest)
    shift = tl.where(high > NEG_INF, high, 0.0)
    total = tl.zeros((), tl.float64)
    for first in range(0, row.n, OPTIONS.TILE):
        _, _, at, inside = _tile(row, first, OPTIONS)
        singles = exp(tl.load(row.singles + at, mask=inside, other=NEG_INF) - shift)
        doubles, _ = _doubles(row, first, shift, OPTIONS)
        total += tl.sum(tl.sum(singles + 0.5 * doubles, 1), 0)
    return shift, total


@triton.jit
def _remaining(row, first, z, rest, OPTIONS: tl.constexpr):
    """p(z_i) - Z q of a tile, that of the mode as the rest of 1 - Z; the prior, and the sums [TILE, 1]."""
    symbol, value, at, inside = _tile(row, first, OPTIONS)
    prior = exp(_log_prior(row, first, OPTIONS))
    valid = tl.load(row.valid + at, mask=inside, other=0.0).to(tl.float64)
    mode = tl.load(row.modes + symbol, mask=symbol < row.n, other=0)
    others = tl.where(value == mode, 0.0, tl.maximum(prior - z * valid, 0.0))
    at_mode = tl.maximum(rest - tl.sum(others, 1, keep_dims=True), 0.0)
    remaining = tl.where(inside & (value == mode), at_mode, others)
    return remaining, prior, tl.sum(remaining, 1, keep_dims=True)


@triton.jit
def _store_marginals(row, z, rest, certain, shift, total, possible, OPTIONS: tl.constexpr):
    """The marginals given label 0, of few mistakes if they are certain; the prior if no label 0 is possible."""
    for first in range(0, row.n, OPTIONS.TILE):
        symbol, value, at, inside = _tile(row, first, OPTIONS)
        remaining, prior, sums = _remaining(row, first, z, rest, OPTIONS)
        mode = tl.load(row.modes + symbol, mask=symbol < row.n, other=0)
        doubles, _ = _doubles(row, first, shift, OPTIONS)
        off = (exp(tl.load(row.singles + at, mask=inside, other=NEG_INF) - shift) + doubles) / total
        few = tl.where(value == mode, 1.0 - tl.sum(off, 1, keep_dims=True), off)
        given_0 = tl.where(certain, few, remaining / tl.where(sums > 0.0, sums, 1.0))
        tl.debug_barrier()  # valid and marginals may be the same
        tl.store(row.marginals + at, tl.where(possible, given_0, prior), mask=inside)


@triton.jit
def _given_0(row, log_valid, status, OPTIONS: tl.constexpr):
    """Stores the marginals of a row with label 0; returns its log evidence and status."""
    log_z = tl.where(status == IMPOSSIBLE, NEG_INF, tl.minimum(log_valid, 0.0))
    z, rest = exp(log_z), _one_less_exp(log_z)
    expected = _store_modes(row, OPTIONS)
    tl.debug_barrier()
    high, is_valid = _store_mistakes(row, OPTIONS)
    tl.debug_barrier()
    shift, total = _mistakes(row, high, OPTIONS)
    certain = (is_valid == 1) & (expected < CERTAIN)
    possible = rest > 0.0
    for first in range(0, row.n, OPTIONS.TILE):
        symbol, _, _, _ = _tile(row, first, OPTIONS)
        _, _, sums = _remaining(row, first, z, rest, OPTIONS)
        possible &= tl.max(tl.where((symbol < row.n) & ~(sums > 0.0), 1, 0)) == 0
    possible = tl.where(certain, total > 0.0, possible)
    tl.debug_barrier()
    some = tl.where(total > 0.0, total, 1.0)
    _store_marginals(row, z, rest, certain, shift, some, possible, OPTIONS)
    log_rest = tl.where(z < 0.5, -LN_2 * log2_1p(z / tl.where(z < 0.5, rest, 1.0)), log(rest))
    log_evidence = tl.where(certain, shift + log(total), log_rest)
    return tl.where(possible, log_evidence, NEG_INF), tl.where(possible, POSSIBLE, IMPOSSIBLE)


@triton.jit
def _copy(row, OPTIONS: tl.constexpr):
    for first in range(0, row.n, OPTIONS.TILE):
        _, _, at, inside = _tile(row, first, OPTIONS)
        tl.store(row.marginals + at, tl.load(row.valid + at, mask=inside), mask=inside)


@triton.jit(do_not_specialize=["batch", "n", "k", "degree"])
def given_label_kernel(
    logits_ptr, label_ptr, neighbours_ptr, valid_ptr, log_valid_ptr, marginals_ptr, evidence_ptr, status_ptr, redo_ptr,
    scratch_ptr, modes_ptr, batch, n, k, degree, COPY: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Rows with label 0 one after another; with COPY also those with redo, whose valid results become the results.

    Grid (programs,). logits, valid and marginals [batch, n, k]; log_valid, evidence, status and redo [batch]; neighbours
    as in Row; scratch float64 [programs, 2 * n * k], modes int32 [programs, n].
    """
    OPTIONS: tl.constexpr = Options(TILE, WIDTH)
    program = tl.program_id(0).to(tl.int64)
    free_ptr = scratch_ptr + program * 2 * n * k
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        at = (tl.zeros((), tl.int64) + i) * n * k
        row = Row(
            logits_ptr + at, valid_ptr + at, marginals_ptr + at, neighbours_ptr, free_ptr, free_ptr + n * k,
            modes_ptr + program * n, n, k, degree,
        )  # fmt: skip
        status = tl.load(status_ptr + i).to(tl.int32)
        if (tl.load(label_ptr + i) == 0) & (status <= IMPOSSIBLE):
            tl.debug_barrier()
            log_evidence, code = _given_0(row, tl.load(log_valid_ptr + i).to(tl.float64), status, OPTIONS)
            tl.store(evidence_ptr + i, log_evidence)
            tl.store(status_ptr + i, code.to(tl.uint8))
            tl.debug_barrier()
        elif (tl.load(redo_ptr + i) >= tl.load(label_ptr + i)) & COPY:
            _copy(row, OPTIONS)
            tl.store(evidence_ptr + i, tl.load(log_valid_ptr + i))
