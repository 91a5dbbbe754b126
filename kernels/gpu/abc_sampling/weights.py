"""Computes thresholds, integer weights and posteriors of weighted samples: see emnesy_gpu.inference.importance.

One program takes one row of the batch. Numbers are float64, logarithms natural. Scores lie in lanes, BLOCK at a time.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels import sampling_plan
from emnesy_gpu.kernels.gpu.abc_sampling.kernels import WEIGH
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.given_label.kernels import NEG_INF, exp, log

COUNT = tl.constexpr(1)
WORDS_OF_A_DRAW = tl.constexpr(2.0**sampling_plan.WORD_BITS)
ONE = tl.constexpr(float(sampling_plan.ONE))
HEADROOM = tl.constexpr(sampling_plan.HEADROOM)
LARGEST_GAIN = tl.constexpr(sampling_plan.LARGEST_GAIN)
LOWEST, HIGHEST = (tl.constexpr(exponent) for exponent in sampling_plan.SHARPNESS_EXPONENTS)
HALVINGS = tl.constexpr(sampling_plan.BISECTIONS)
TINY = tl.constexpr(sampling_plan.TINY)
ROUNDING = tl.constexpr(6755399441055744.0)  # 1.5 * 2^52: to add and subtract it rounds to an integer

# What weights are relative to: 1, a guess from a pilot, the best sample where the guess is off, the best sample at the
# sharpness for a target, the best sample.
TO_ONE, TO_GUESS, TO_BEST_IF_OFF, TO_TARGET, TO_BEST = (tl.constexpr(mode) for mode in range(5))


class Scores(NamedTuple):
    """The scores of a row: log weights at sharpness 1, and how many samples have each."""

    exponents: object  # float64 [n_rows, width]
    counts: object  # int32 [n_rows, width]
    n_rows: object
    width: object
    invalid: object  # whether the label is 0, "not all constraints hold"


@triton.jit
def log_weights(scores, r, first, sharpness, BLOCK: tl.constexpr):
    """Log weights and counts [BLOCK] of the scores of row r from the first on."""
    s = first + tl.arange(0, BLOCK)
    inside = s < scores.width
    exponent = tl.load(scores.exponents + r * scores.width + s, mask=inside, other=NEG_INF)
    exponent = tl.where(scores.invalid, tl.where(s < scores.width - 1, 0.0, NEG_INF), exponent)
    count = tl.load(scores.counts + r * scores.width + s, mask=inside, other=0)
    return tl.where(exponent > NEG_INF, exponent * sharpness, NEG_INF), count.to(tl.float64)


@triton.jit
def _best(scores, r, sharpness, BLOCK: tl.constexpr):
    """The largest log weight of any sample, -inf where there is none."""
    best = tl.full((BLOCK,), NEG_INF, tl.float64)
    for first in range(0, scores.width, BLOCK):
        log_weight, count = log_weights(scores, r, first, sharpness, BLOCK)
        best = tl.maximum(best, tl.where(count > 0.0, log_weight, NEG_INF))
    return tl.max(best, 0)


@triton.jit
def _sums(scores, r, sharpness, BLOCK: tl.constexpr):
    """The best log weight, and of weights relative to it the sum, the sum of squares, and the number of samples."""
    best = _best(scores, r, sharpness, BLOCK)
    anchor = tl.where(best > NEG_INF, best, 0.0)
    total = tl.zeros((BLOCK,), tl.float64)
    squares = tl.zeros((BLOCK,), tl.float64)
    number = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, scores.width, BLOCK):
        log_weight, count = log_weights(scores, r, first, sharpness, BLOCK)
        weight = exp(tl.minimum(log_weight - anchor, 0.0))
        total += count * weight
        squares += count * weight * weight
        number += count
    return best, tl.sum(total, 0), tl.sum(squares, 0), tl.sum(number, 0)


@triton.jit
def size_and_mean(scores, sharpness, BLOCK: tl.constexpr):
    """The effective sample size, the least over the score rows, and the mean over them of the log of the mean weight.

    Also the least over them of the best log weight.
    """
    least = tl.full((), float("inf"), tl.float64)
    lowest = tl.full((), float("inf"), tl.float64)
    log_mean = tl.zeros((), tl.float64)
    for r in range(scores.n_rows):
        best, total, squares, number = _sums(scores, r, sharpness, BLOCK)
        least = tl.minimum(least, total * total / tl.maximum(squares, TINY))
        lowest = tl.minimum(lowest, best)
        log_mean += log(total) + tl.where(best > NEG_INF, best, 0.0) - log(number)
    return least, log_mean / scores.n_rows, lowest


@triton.jit
def _power_of_2(x):
    return exp(x * 0.6931471805599453)


@triton.jit
def sharpness_for(scores, target, BLOCK: tl.constexpr):
    """The largest sharpness with at least the target effective sample size, by bisection of its logarithm, or 0."""
    found = tl.full((), LOWEST, tl.float64)
    step = tl.full((), HIGHEST - LOWEST, tl.float64)
    none, _, _ = size_and_mean(scores, _power_of_2(found), BLOCK)
    every, _, _ = size_and_mean(scores, _power_of_2(found + step), BLOCK)
    for _ in range(HALVINGS):
        step = step * 0.5
        size, _, _ = size_and_mean(scores, _power_of_2(found + step), BLOCK)
        found = tl.where(size >= target, found + step, found)
    found = tl.where(every >= target, HIGHEST, found)
    return tl.where(none >= target, _power_of_2(found), 0.0)


@triton.jit
def _store_weights(weights_ptr, scores, r, sharpness, relative_to, BLOCK: tl.constexpr):
    """Integer weights [width] of a score row, in units of 1 / ONE; in float64 weights of what no sample has, too."""
    WIDE: tl.constexpr = weights_ptr.dtype.element_ty == tl.float64
    for first in range(0, scores.width, BLOCK):
        s = first + tl.arange(0, BLOCK)
        log_weight, _ = log_weights(scores, r, first, sharpness, BLOCK)
        weight = exp(tl.minimum(log_weight - relative_to, LARGEST_GAIN if WIDE else 0.0))
        if not WIDE:
            weight = (weight * ONE + ROUNDING - ROUNDING).to(tl.int32)
        tl.store(weights_ptr + r * scores.width + s, weight, mask=s < scores.width)


@triton.jit(do_not_specialize=["n_rows", "width"])
def weights_kernel(
    exponents_ptr, label_ptr, counts_ptr, weights_ptr, guess_ptr, sharpness_ptr, work_ptr, n_rows, width, high,
    low, MODE: tl.constexpr, ONLY_WEIGHTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Weights of one row relative to what MODE says, and the work of the pass that takes them.

    ONLY_WEIGHTS: labels are not 0 or 1, and there is no work.

    Grid (batch,). exponents [n_rows, width]; counts and weights [batch, n_rows, width]; guess [batch, n_rows], log
    weights; sharpness [batch]. high + low: the sharpness, with TO_TARGET the effective sample size.
    """
    row = tl.program_id(0).to(tl.int64)
    at = row * n_rows * width
    invalid = False
    if not ONLY_WEIGHTS:
        invalid = tl.load(label_ptr + row) == 0
    scores = Scores(exponents_ptr, counts_ptr + at, n_rows, width, invalid)
    level = tl.zeros((), tl.float64) + high + low
    if MODE == TO_TARGET:
        level = sharpness_for(scores, level, BLOCK)
    tl.store(sharpness_ptr + row, level)
    work = tl.full((), 0 if MODE == TO_BEST_IF_OFF else 2, tl.int32)
    for r in range(n_rows):
        relative_to = tl.zeros((), tl.float64)
        if MODE != TO_ONE:
            best = _best(scores, r, level, BLOCK)
            seen = best > NEG_INF
            relative_to = tl.where(seen, best, 0.0)
            if MODE == TO_GUESS:
                relative_to = tl.where(seen, tl.minimum(best + HEADROOM, 0.0), 0.0)
                tl.store(guess_ptr + row * n_rows + r, relative_to)
            if MODE == TO_BEST_IF_OFF:
                guess = tl.load(guess_ptr + row * n_rows + r)
                off = seen & ((best > guess) | (best < guess - HEADROOM * 1.001))
                work = tl.where(off, WEIGH, work)
        _store_weights(weights_ptr + at, scores, r, level, relative_to, BLOCK)
    if not ONLY_WEIGHTS:
        tl.store(work_ptr + row, work)


@triton.jit
def _logit(pointers, inside):
    """Logits in float64, 0 where masked."""
    return bounded(tl.load(pointers, mask=inside, other=0.0)).to(tl.float64)


@triton.jit(do_not_specialize=["n", "k"])
def prior_kernel(
    logits_ptr, label_ptr, thresholds_ptr, status_ptr, work_ptr, n, k, LABELLED: tl.constexpr, LANES: tl.constexpr
):
    """Thresholds int32 [batch, n, k - 1] of one row; a symbol is a lane.

    With LABELLED also its status, for labels that are 0 or 1, and work [batch] becomes COUNT. Grid (batch,). logits
    [batch, n, k]. Sums go from the first value to the last, as on every other back end.
    """
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    thresholds_ptr += row * n * (k - 1)
    broken = tl.zeros((LANES,), tl.int32)
    for first in range(0, n, LANES):
        symbol = first + tl.arange(0, LANES)
        inside = symbol < n
        high = tl.full((LANES,), NEG_INF, tl.float64)
        for v in range(k):
            logit = _logit(logits_ptr + symbol * k + v, inside)
            broken |= (~(logit < float("inf"))).to(tl.int32)
            high = tl.maximum(high, logit)
        broken |= (~(high > NEG_INF)).to(tl.int32)
        high = tl.where(high > NEG_INF, high, 0.0)
        total = tl.zeros((LANES,), tl.float64)
        for v in range(k):
            total += exp(_logit(logits_ptr + symbol * k + v, inside) - high)
        scale = WORDS_OF_A_DRAW / total
        running = tl.zeros((LANES,), tl.float64)
        for v in range(k - 1):
            running += exp(_logit(logits_ptr + symbol * k + v, inside) - high)
            threshold = tl.where(total > 0.0, running * scale, 0.0) + ROUNDING - ROUNDING - 1.0
            tl.store(thresholds_ptr + symbol * (k - 1) + v, threshold.to(tl.int32), mask=inside)
    if LABELLED:
        label = tl.load(label_ptr + row)
        code = tl.where(tl.max(broken, 0) > 0, INVALID_LOGITS, POSSIBLE)
        code = tl.where((label < 0) | (label > 1), INVALID_LABEL, code)
        tl.store(status_ptr + row, code.to(tl.uint8))
        tl.store(work_ptr + row, COUNT)


@triton.jit(do_not_specialize=["n_rows", "width", "n", "k", "n_samples"])
def posterior_kernel(
    logits_ptr, label_ptr, exponents_ptr, counts_ptr, sums_ptr, again_ptr, work_ptr, sharpness_ptr, marginals_ptr,
    evidence_ptr, status_ptr, size_ptr, level_ptr, matches_ptr, n_rows, width, n, k, n_samples, BLOCK: tl.constexpr,
    TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All results of one row from its counts and weighted sums.

    Grid (batch,). sums and again [batch, n, k]: weights of values of at least v; `again` counts where work is WEIGH.
    counts [batch, n_rows, width]; results as in emnesy_gpu.ops.results.weighted_results.
    """
    COMPUTE: tl.constexpr = marginals_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    invalid = tl.load(label_ptr + row) == 0
    scores = Scores(exponents_ptr, counts_ptr + row * n_rows * width, n_rows, width, invalid)
    level = tl.load(sharpness_ptr + row)
    size, log_mean, _ = size_and_mean(scores, level, BLOCK)
    code = tl.load(status_ptr + row).to(tl.int32)
    redone = tl.load(work_ptr + row) == WEIGH
    nothing = 0
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)
        at = (row * n + symbol) * k
        once = tl.load(sums_ptr + at, mask=symbol < n, other=1)
        total = tl.where(redone, tl.load(again_ptr + at, mask=symbol < n, other=1), once)
        nothing |= tl.max((total == 0).to(tl.int32), 0)
    code = tl.where((code == POSSIBLE) & (nothing == 1), IMPOSSIBLE, code)
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        value = tl.arange(0, WIDTH)[None, :]
        inside = (symbol < n) & (value < k)
        at = (row * n + symbol) * k + value
        more = (symbol < n) & (value < k - 1)
        once = tl.load(sums_ptr + at, mask=inside, other=0) - tl.load(sums_ptr + at + 1, mask=more, other=0)
        twice = tl.load(again_ptr + at, mask=inside, other=0) - tl.load(again_ptr + at + 1, mask=more, other=0)
        weight = tl.where(redone, twice, once)
        total = tl.maximum(tl.sum(weight, 1, keep_dims=True), 1)
        logits = bounded(tl.load(logits_ptr + at, mask=inside, other=NEG_INF)).to(COMPUTE).to(tl.float64)
        high = tl.max(tl.where(symbol < n, logits, 0.0), 1, keep_dims=True)
        prior = exp(logits - high)
        prior = prior / tl.sum(tl.where(symbol < n, prior, 1.0), 1, keep_dims=True)
        found = tl.where(code == POSSIBLE, weight.to(tl.float64) / total.to(tl.float64), prior)
        tl.store(marginals_ptr + at, found, mask=inside)
    tl.store(evidence_ptr + row, tl.where(code == POSSIBLE, log_mean, NEG_INF))
    tl.debug_barrier()  # other warps have read the status
    tl.store(status_ptr + row, code.to(tl.uint8))
    tl.store(size_ptr + row, size)
    tl.store(level_ptr + row, level)
    all_hold = tl.load(scores.counts + width - 1).to(tl.int64)
    tl.store(matches_ptr + row, tl.where(invalid, n_samples - all_hold, all_hold))
