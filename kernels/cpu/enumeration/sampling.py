"""Samples from a list of assignments one row at a time, in float64 and log space: logits of any size.

The draws are those of ``reference.enumeration``: sample s is the first assignment whose running sum of weights exceeds
uniform * total, with uniforms from Philox-4x32-10, counter (position, sample, global row) and key seed.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.philox import philox_uniforms
from emnesy_gpu.kernels.cpu.common.symbol_rows import log_softmax, row_status
from emnesy_gpu.kernels.cpu.enumeration.log_space import log_joints
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


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


@lane_function
def draw_assignments(assignments, sums, seed, row, drawn):
    """Samples [n_samples, N] of one row from the list, by the running sums of its weights."""
    for sample in range(len(drawn)):
        uniform = philox_uniforms(0, sample, row, seed)[0]
        m = first_above(sums, uniform * sums[-1])
        for i in range(assignments.shape[1]):
            drawn[sample, i] = assignments[m, i]


@lane_function
def draw_from_priors(table, sums, seed, row, drawn):
    """Samples [n_samples, N] of one row, every symbol by itself, by a table [N K] of log priors; sums: scratch."""
    n_samples, n = drawn.shape
    k = len(table) // n
    for i in range(n):
        part = slice(i * k, (i + 1) * k)
        running_sums(table[part], np.max(table[part]), sums[part])
        prior = sums[part]
        for sample in range(n_samples):
            uniform = philox_uniforms(i, sample, row, seed)[0]
            drawn[sample, i] = first_above(prior, uniform * prior[k - 1])


@kernel
def sample_rows(logits, label, assignments, drawn, status, first, seed, first_row):
    """Logits [rows, N, K] and labels of some rows into rows ``first`` and on of drawn and status.

    drawn: [n_samples, batch, N]; row 0 of that is row first_row of all. Symbols of impossible rows come from their
    priors.
    """
    rows, n, k = logits.shape
    table, weights, sums = np.empty(n * k), np.empty(len(assignments)), np.empty(max(len(assignments), n * k))
    for index in range(rows):
        row = first + index
        code = row_status(logits[index], label[index])
        log_softmax(logits[index], table)
        if code == POSSIBLE:
            largest = log_joints(table, k, assignments, weights)
            if largest == -np.inf:
                code = IMPOSSIBLE
            else:
                running_sums(weights, largest, sums[: len(weights)])
        status[row] = code
        if code == POSSIBLE:
            draw_assignments(assignments, sums[: len(weights)], seed, first_row + row, drawn[:, row])
        else:
            draw_from_priors(table, sums[: n * k], seed, first_row + row, drawn[:, row])
