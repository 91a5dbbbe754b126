"""Weights and effective sample sizes from counts of scores, in float64: see ``emnesy_gpu.inference.importance``.

Arrays are [R, width], a row for each row of scores and a column for each score; R is 1 or the number of symbols.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.sampling_plan import BISECTIONS, ONE, SHARPNESS_EXPONENTS, TINY, WORD_BITS


@lane_function
def find_thresholds(logits, thresholds):
    """thresholds int32 [N, K - 1] of the prior of logits [N, K]: see ``importance.thresholds``."""
    n, k = logits.shape
    running = np.empty(k)
    for i in range(n):
        highest = np.float64(logits[i, 0])
        for v in range(1, k):
            highest = max(highest, np.float64(logits[i, v]))
        total = 0.0
        for v in range(k):
            total += math.exp(logits[i, v] - highest)
            running[v] = total
        scale = 2.0**WORD_BITS / total
        for v in range(k - 1):
            thresholds[i, v] = np.int32(np.int64(np.rint(running[v] * scale)) - 1)


@lane_function
def scale_exponents(exponents, label, sharpness, log_weights):
    """Log weights at a sharpness: of the exponents given label 1; 0 for all but the last column given label 0."""
    rows, width = exponents.shape
    for r in range(rows):
        for c in range(width):
            exponent = exponents[r, c]
            if label == 0:
                exponent = -np.inf if c == width - 1 else 0.0
            log_weights[r, c] = exponent if exponent == -np.inf else exponent * sharpness


@lane_function
def find_best(log_weights, counts, best):
    """best [R]: the largest log weight of any sample, -inf where there is none."""
    rows, width = counts.shape
    for r in range(rows):
        best[r] = -np.inf
        for c in range(width):
            if counts[r, c] > 0:
                best[r] = max(best[r], log_weights[r, c])


@lane_function
def relative_weight(log_weight, best):
    """Relative to a log weight, to 0 where that is -inf; larger ones are cut off at 1."""
    return math.exp(min(log_weight - (0.0 if best == -np.inf else best), 0.0))


@lane_function
def find_integers(log_weights, relative_to, weights):
    """Relative weights in units of 1 / ONE."""
    rows, width = weights.shape
    for r in range(rows):
        for c in range(width):
            weights[r, c] = np.int32(np.rint(relative_weight(log_weights[r, c], relative_to[r]) * ONE))


@lane_function
def least_size(log_weights, level, counts, best):
    """(sum w)^2 / sum w^2 of weights w = exp(level (log weight - best)), the least of the rows."""
    rows, width = counts.shape
    least = np.inf
    for r in range(rows):
        total, squares = 0.0, 0.0
        for c in range(width):
            if counts[r, c] > 0:
                relative = log_weights[r, c] - (0.0 if best[r] == -np.inf else best[r])
                weight = math.exp(min(relative * level, 0.0))
                total += counts[r, c] * weight
                squares += counts[r, c] * weight * weight
        least = min(least, total * total / max(squares, TINY))
    return least


@lane_function
def mean_log_weight(log_weights, counts, best, n_samples):
    """The log of the mean weight, averaged over the rows."""
    rows, width = counts.shape
    logs = 0.0
    for r in range(rows):
        total = 0.0
        for c in range(width):
            if counts[r, c] > 0:
                total += counts[r, c] * relative_weight(log_weights[r, c], best[r])
        logs += math.log(total) + (0.0 if best[r] == -np.inf else best[r]) - math.log(n_samples)
    return logs / rows


@lane_function
def find_sharpness(exponents, counts, best, target):
    """The largest sharpness in 2^-10..2^20 with at least the target effective sample size, or 0, by bisection."""
    lowest, highest = SHARPNESS_EXPONENTS
    if least_size(exponents, 2.0**lowest, counts, best) < target:
        return 0.0
    if least_size(exponents, 2.0**highest, counts, best) >= target:
        return 2.0**highest
    found, step = lowest, highest - lowest
    for _ in range(BISECTIONS):
        step *= 0.5
        if least_size(exponents, 2.0 ** (found + step), counts, best) >= target:
            found += step
    return 2.0**found
