"""Inference over a list of assignments one row at a time, in float64 and log space: logits of any size, and samples."""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.philox import philox_uniforms
from emnesy_gpu.kernels.cpu.common.symbol_rows import log_softmax, row_status, write_prior
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def log_joints(table, k, assignments, log_weights):
    """log_weights[m] = log p(z_m), symbols in ascending order; returns the largest."""
    largest = -np.inf
    for m in range(len(assignments)):
        total = 0.0
        for i in range(assignments.shape[1]):
            total += table[i * k + assignments[m, i]]
        log_weights[m] = total
        largest = max(largest, total)
    return largest


@lane_function
def posterior_row(logits, code, assignments, table, weights, marginals):
    """Marginals of one row, its log evidence and its status; rows without a posterior get the prior and -inf."""
    n, k = logits.shape
    log_softmax(logits, table)
    largest = log_joints(table, k, assignments, weights) if code == POSSIBLE else -np.inf
    if largest == -np.inf:
        write_prior(table, marginals)
        return -np.inf, IMPOSSIBLE if code == POSSIBLE else code
    total = 0.0
    table[:] = 0.0
    for m in range(len(assignments)):
        weight = math.exp(weights[m] - largest)
        total += weight
        for i in range(n):
            table[i * k + assignments[m, i]] += weight
    for i in range(n):
        for v in range(k):
            marginals[i, v] = table[i * k + v] / total
    return largest + math.log(total), code


@lane_function
def running_sums(log_weights, largest, sums):
    """sums[m] = the sum of exp(log_weights[0 .. m] - largest)."""
    total = 0.0
    for m in range(len(sums)):
        total += math.exp(log_weights[m] - largest)
        sums[m] = total


@lane_function
def first_above(sums, threshold):
    """The first index whose entry exceeds the threshold, if that is less than the last entry."""
    low, high = 0, len(sums) - 1
    while low < high:
        middle = (low + high) // 2
        if sums[middle] > threshold:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def sample_rows(logits, label, assignments, seed, first_row, drawn, status):
    """drawn [n_samples, batch, N]; row 0 is row first_row of all. Symbols of impossible rows come from their priors."""
    batch, n, k = logits.shape
    table, weights, sums = np.empty(n * k), np.empty(len(assignments)), np.empty(max(len(assignments), n * k))
    for row in range(batch):
        code = row_status(logits[row], label[row])
        log_softmax(logits[row], table)
        if code == POSSIBLE:
            largest = log_joints(table, k, assignments, weights)
            if largest == -np.inf:
                code = IMPOSSIBLE
            else:
                running_sums(weights, largest, sums[: len(weights)])
        status[row] = code
        if code != POSSIBLE:
            for i in range(n):
                part = slice(i * k, (i + 1) * k)
                running_sums(table[part], np.max(table[part]), sums[part])
        for sample in range(len(drawn)):
            if code == POSSIBLE:
                uniform = philox_uniforms(0, sample, first_row + row, seed)[0]
                m = first_above(sums[: len(weights)], uniform * sums[len(weights) - 1])
                for i in range(n):
                    drawn[sample, row, i] = assignments[m, i]
            else:
                for i in range(n):
                    uniform = philox_uniforms(i, sample, first_row + row, seed)[0]
                    prior = sums[i * k : (i + 1) * k]
                    drawn[sample, row, i] = first_above(prior, uniform * prior[k - 1])
