"""Computes posteriors from samples that are counted by score and value. One program takes one row of the batch."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.abc_sampling.weights import NEG_INF, Scores, log_weights, sharpness_for, size_and_mean
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.given_label.kernels import exp


@triton.jit
def _store_counts(counts_ptr, histogram_ptr, width, n, k, BLOCK: tl.constexpr):
    """The samples of each score [width], int32, as the first symbol counts them."""
    for first in range(0, width, BLOCK):
        s = first + tl.arange(0, BLOCK)
        count = tl.zeros((BLOCK,), tl.int64)
        for v in range(k):
            count += tl.load(histogram_ptr + s.to(tl.int64) * n * k + v, mask=s < width, other=0)
        tl.store(counts_ptr + s, count.to(tl.int32), mask=s < width)


@triton.jit
def _store_weights(weights_ptr, scores, level, best, BLOCK: tl.constexpr):
    """Weights [width] relative to the best sample, 0 where there is no sample."""
    for first in range(0, scores.width, BLOCK):
        s = first + tl.arange(0, BLOCK)
        log_weight, count = log_weights(scores, 0, first, level, BLOCK)
        weight = tl.where(count > 0.0, exp(tl.minimum(log_weight - best, 0.0)), 0.0)
        tl.store(weights_ptr + s, weight, mask=s < scores.width)


@triton.jit
def _marginals(logits_ptr, histogram_ptr, weights_ptr, at, size, inside, exists, possible, width):
    """Marginals of a tile of symbols and values at offsets `at`; the prior if the label is not possible."""
    total = tl.zeros(at.shape, tl.float64)
    for s in range(width):
        weight = tl.load(weights_ptr + s)
        if weight > 0.0:
            count = tl.load(histogram_ptr + size * s + at, mask=inside, other=0)
            total += weight * count.to(tl.float64)
    logits = bounded(tl.load(logits_ptr + at, mask=inside, other=NEG_INF)).to(tl.float64)
    prior = exp(logits - tl.max(tl.where(exists, logits, 0.0), 1, keep_dims=True))
    found = tl.where(possible, total, prior)
    return found / tl.sum(tl.where(exists, found, 1.0), 1, keep_dims=True)


@triton.jit(do_not_specialize=["width", "n", "k", "n_samples", "with_target"])
def posterior_kernel(
    logits_ptr, histogram_ptr, exponents_ptr, counts_ptr, weights_ptr, marginals_ptr, evidence_ptr, possible_ptr,
    size_ptr, level_ptr, acceptance_ptr, width, n, k, n_samples, high, low, WITH_TARGET: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All results of one row.

    Grid (batch,). logits and marginals [batch, n, k]; histogram int64 [batch, width, n, k]; exponents [width]; counts
    and weights [batch, width], scratch; results [batch]. high + low: the sharpness, or the target of its size.
    """
    row = tl.program_id(0).to(tl.int64)
    histogram_ptr += row * width * n * k
    counts_ptr += row * width
    weights_ptr += row * width
    _store_counts(counts_ptr, histogram_ptr, width, n, k, BLOCK)
    tl.debug_barrier()
    scores = Scores(exponents_ptr, counts_ptr, 1, width, False)
    level = tl.zeros((), tl.float64) + high + low
    if WITH_TARGET:
        level = sharpness_for(scores, level, BLOCK)
    size, log_mean, best = size_and_mean(scores, level, BLOCK)
    possible = best > NEG_INF
    _store_weights(weights_ptr, scores, level, tl.where(possible, best, 0.0), BLOCK)
    tl.debug_barrier()
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        value = tl.arange(0, WIDTH)[None, :]
        inside = (symbol < n) & (value < k)
        at = symbol * k + value
        own_ptr = logits_ptr + row * n * k
        size_of_score = tl.zeros((), tl.int64) + n * k
        found = _marginals(own_ptr, histogram_ptr, weights_ptr, at, size_of_score, inside, symbol < n, possible, width)
        tl.store(marginals_ptr + row * n * k + at, found, mask=inside)
    tl.store(evidence_ptr + row, tl.where(possible, log_mean, NEG_INF))
    tl.store(possible_ptr + row, possible.to(tl.int8))
    tl.store(size_ptr + row, size)
    tl.store(level_ptr + row, level)
    matches = tl.load(counts_ptr + width - 1).to(tl.float64)
    tl.store(acceptance_ptr + row, matches / (tl.zeros((), tl.float64) + n_samples))
