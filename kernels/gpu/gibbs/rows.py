"""Computes what Gibbs chains take of the logits, and posteriors from their sums. A program takes one row of the batch."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.given_label.kernels import NEG_INF, exp, log

LARGEST_LOG_RATIO = tl.constexpr(40.0)  # as in emnesy_gpu.reference.gibbs


@triton.jit(do_not_specialize=["n", "k"])
def prior_kernel(
    logits_ptr, label_ptr, prior_ptr, status_ptr, n, k, LABELLED: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr
):
    """The prior float32 [batch, n, k] relative to its largest entry; with LABELLED the status, for labels 0 and 1.

    Grid (batch,). logits [batch, n, k].
    """
    row = tl.program_id(0).to(tl.int64)
    value = tl.arange(0, WIDTH)[None, :]
    broken = tl.zeros((TILE, 1), tl.int32)
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        inside = (symbol < n) & (value < k)
        at = row * n * k + symbol * k + value
        logits = bounded(tl.load(logits_ptr + at, mask=inside, other=NEG_INF)).to(tl.float64)
        high = tl.max(tl.where(logits == logits, logits, NEG_INF), 1, keep_dims=True)
        undefined = tl.max((logits != logits).to(tl.int32), 1, keep_dims=True)
        finite = (undefined == 0) & (high > NEG_INF) & (high < float("inf"))
        broken |= tl.where((symbol < n) & ~finite, 1, 0)
        relative = logits - high
        relative = tl.where((undefined == 0) & (relative == relative), relative, 0.0)
        prior = tl.where(relative >= -LARGEST_LOG_RATIO, exp(relative), 0.0)
        tl.store(prior_ptr + at, prior.to(tl.float32), mask=inside)
    if LABELLED:
        label = tl.load(label_ptr + row)
        code = tl.where(tl.max(tl.max(broken, 1), 0) > 0, INVALID_LOGITS, POSSIBLE)
        tl.store(status_ptr + row, tl.where((label < 0) | (label > 1), INVALID_LABEL, code).to(tl.uint8))


@triton.jit
def _store_marginals(logits_ptr, sums_ptr, marginals_ptr, broken, n, k, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """The marginals [n, k] of one row: sums of conditionals, normalised, or the prior of a broken row."""
    value = tl.arange(0, WIDTH)[None, :]
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        inside = (symbol < n) & (value < k)
        at = symbol * k + value
        total = tl.load(sums_ptr + at, mask=inside, other=0).to(tl.float64)
        if broken:
            logits = bounded(tl.load(logits_ptr + at, mask=inside, other=NEG_INF)).to(tl.float64)
            total = exp(logits - tl.max(tl.where(symbol < n, logits, 0.0), 1, keep_dims=True))
        found = total / tl.sum(tl.where(symbol < n, total, 1.0), 1, keep_dims=True)
        tl.store(marginals_ptr + at, found, mask=inside)


@triton.jit
def _evidence(annealing_ptr, final_ptr, chains, step, BLOCK: tl.constexpr):
    """The log of the mean weight of the chains, and how many end without a conflict."""
    least = tl.full((BLOCK,), 1 << 62, tl.int64)
    satisfied = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, chains, BLOCK):
        chain = first + tl.arange(0, BLOCK)
        least = tl.minimum(least, tl.load(annealing_ptr + chain, mask=chain < chains, other=1 << 62))
        satisfied += (tl.load(final_ptr + chain, mask=chain < chains, other=1) == 0).to(tl.float64)
    best = tl.min(least, 0)
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, chains, BLOCK):
        chain = first + tl.arange(0, BLOCK)
        worse = tl.load(annealing_ptr + chain, mask=chain < chains, other=0) - best
        total += tl.where(chain < chains, exp(worse.to(tl.float64) * -step), 0.0)
    return log(tl.sum(total, 0)) - best.to(tl.float64) * step, tl.sum(satisfied, 0)


@triton.jit(do_not_specialize=["n", "k", "chains"])
def results_kernel(
    logits_ptr, sums_ptr, annealing_ptr, final_ptr, status_ptr, marginals_ptr, evidence_ptr, satisfied_ptr, n, k,
    chains, high, low, LABELLED: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Marginals [batch, n, k], log evidence and the share of chains without a conflict [batch].

    Grid (batch,). sums [batch, n, k], int64 or float32; annealing and final int64 [batch, chains]. high + low: the
    penalty of a conflict in a sweep of the annealing.
    """
    row = tl.program_id(0).to(tl.int64)
    broken = False
    if LABELLED:
        broken = tl.load(status_ptr + row).to(tl.int32) > POSSIBLE
    at = row * n * k
    _store_marginals(logits_ptr + at, sums_ptr + at, marginals_ptr + at, broken, n, k, TILE, WIDTH)
    step = tl.zeros((), tl.float64) + high + low
    log_mean, satisfied = _evidence(annealing_ptr + row * chains, final_ptr + row * chains, chains, step, BLOCK)
    number = tl.zeros((), tl.float64) + chains
    tl.store(evidence_ptr + row, tl.where(broken, NEG_INF, log_mean - log(number)))
    tl.store(satisfied_ptr + row, satisfied / number)
