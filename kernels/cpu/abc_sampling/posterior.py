"""The posterior of a row by weighted samples, from its logits to its marginals.

A pass over the samples counts them by score and adds up their weights, integers relative to 1, or, if weights span a
wide range, to a guess of the best weight from the first samples. Where the guess is off, a second pass takes the best
weight itself. Where the sharpness follows from the counts, one pass counts and another one adds up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.abc_sampling.blocks import Scoring, empty_workspace, weigh_samples
from emnesy_gpu.kernels.cpu.abc_sampling.weights import (
    find_best,
    find_integers,
    find_sharpness,
    find_thresholds,
    least_size,
    mean_log_weight,
    scale_exponents,
)
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.symbol_rows import log_softmax, row_status, write_prior
from emnesy_gpu.kernels.sampling_plan import HEADROOM
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


class Row(NamedTuple):
    """The arrays of the row at hand."""

    thresholds: np.ndarray  # int32 [N, K - 1]
    log_weights: np.ndarray  # [R, width]
    best: np.ndarray  # [R]
    guess: np.ndarray  # [R]
    counts: np.ndarray  # int64 [R, width]
    histogram: np.ndarray  # int64 [N, K]
    table: np.ndarray  # [N K]


@lane_function
def is_off(guess, best):
    """Whether integer weights relative to the guess are cut off, or too coarse, at the best log weight of some row."""
    off = False
    for r in range(len(best)):
        off |= best[r] > -np.inf and (best[r] > guess[r] or best[r] < guess[r] - HEADROOM * 1.001)
    return off


@lane_function
def weigh_at_target(row, exponents, label, plan, stream, scoring, workspace):
    """Counts, histogram, log weights and best of a row at the sharpness of its target; returns that."""
    weigh_samples(row.thresholds, plan.n_samples, stream, scoring, workspace, False, row.counts, row.histogram)
    scale_exponents(exponents, label, 1.0, row.log_weights)
    find_best(row.log_weights, row.counts, row.best)
    level = find_sharpness(row.log_weights, row.counts, row.best, plan.target_ess)
    scale_exponents(exponents, label, level, row.log_weights)
    find_best(row.log_weights, row.counts, row.best)
    find_integers(row.log_weights, row.best, scoring.weights)
    weigh_samples(row.thresholds, plan.n_samples, stream, scoring, workspace, True, row.counts, row.histogram)
    return level


@lane_function
def weigh(row, exponents, label, plan, stream, scoring, workspace):
    """The same at the sharpness of the plan, in one pass or two, and a pilot if there is one."""
    scale_exponents(exponents, label, plan.sharpness, row.log_weights)
    row.guess[:] = 0.0
    if plan.pilot > 0:
        weigh_samples(row.thresholds, plan.pilot, stream, scoring, workspace, False, row.counts, row.histogram)
        find_best(row.log_weights, row.counts, row.best)
        for r in range(len(row.best)):
            row.guess[r] = 0.0 if row.best[r] == -np.inf else min(row.best[r] + HEADROOM, 0.0)
    find_integers(row.log_weights, row.guess, scoring.weights)
    weigh_samples(row.thresholds, plan.n_samples, stream, scoring, workspace, True, row.counts, row.histogram)
    find_best(row.log_weights, row.counts, row.best)
    if plan.pilot > 0 and is_off(row.guess, row.best):
        find_integers(row.log_weights, row.best, scoring.weights)
        weigh_samples(row.thresholds, plan.n_samples, stream, scoring, workspace, True, row.counts, row.histogram)
    return plan.sharpness


@lane_function
def write_means(histogram, marginals):
    """Shares of the weights of each symbol; False, without writing all, where a symbol has no weight."""
    n, k = histogram.shape
    for i in range(n):
        total = 0
        for v in range(k):
            total += histogram[i, v]
        if total == 0:
            return False
        for v in range(k):
            marginals[i, v] = np.float64(histogram[i, v]) / total
    return True


@kernel
def posterior_rows(
    logits, label, exponents, constraints, plan, local, stream, marginals, floats, status, matches, first, last
):
    """Rows first .. last - 1; floats: log evidence, effective sample size and sharpness [batch]."""
    _, n, k = logits.shape
    rows, width = exponents.shape
    seed, first_row, first_sample = stream
    log_evidence, size, sharpness = floats
    scoring, workspace = Scoring(constraints, np.empty((rows, width), np.int32), local), empty_workspace(n, rows)
    of_row = Row(
        np.empty((n, k - 1), np.int32),
        np.empty((rows, width)),
        np.empty(rows),
        np.empty(rows),
        np.empty((rows, width), np.int64),
        np.empty((n, k), np.int64),
        np.empty(n * k),
    )
    for row in range(first, last):
        code, level = row_status(logits[row], label[row]), 0.0
        log_evidence[row], size[row], matches[row] = -np.inf, 0.0, 0
        if code == POSSIBLE:
            find_thresholds(logits[row], of_row.thresholds)
            where = seed, first_row + row, first_sample
            arguments = of_row, exponents, label[row], plan, where, scoring, workspace
            level = weigh_at_target(*arguments) if plan.target_ess > 0.0 else weigh(*arguments)
            size[row] = least_size(of_row.log_weights, 1.0, of_row.counts, of_row.best)
            hits = of_row.counts[0, width - 1]
            matches[row] = plan.n_samples - hits if label[row] == 0 else hits
            if write_means(of_row.histogram, marginals[row]):
                mean = mean_log_weight(of_row.log_weights, of_row.counts, of_row.best, plan.n_samples)
                log_evidence[row] = mean
            else:
                code = IMPOSSIBLE
        if code != POSSIBLE:
            log_softmax(logits[row], of_row.table)
            write_prior(of_row.table, marginals[row])
        sharpness[row], status[row] = level, code
