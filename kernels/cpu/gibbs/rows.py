"""The rows of a batch: the priors that their chains start from, and marginals and evidence of what chains have seen."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common import lanes as floats
from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES
from emnesy_gpu.kernels.cpu.common.symbol_rows import row_status, write_softmax
from emnesy_gpu.kernels.cpu.gibbs.chains import F32
from emnesy_gpu.kernels.cpu.gibbs.sweeps import LARGEST_LOG_RATIO, run_block
from emnesy_gpu.kernels.status import POSSIBLE


class Sums(NamedTuple):
    """What the chains of some rows have seen."""

    prior: np.ndarray  # float32 [rows, N K]: what they start from
    conditionals: np.ndarray  # float32 [rows, N K]
    annealing: np.ndarray  # int64 [rows, chains]: conflicts summed over the sweeps of annealing
    final: np.ndarray  # int64 [rows, chains]: conflicts at the end


class Results(NamedTuple):
    """What is said about each row, in the float type of the result."""

    marginals: np.ndarray  # [batch, N, K]
    log_evidence: np.ndarray  # [batch]
    satisfied: np.ndarray  # [batch]: share of the chains without a conflict
    status: np.ndarray  # uint8 [batch]


@lane_function
def read_prior(logits, exponentials, prior):
    """The prior [N K] of a row relative to the largest one of each symbol; 1 for all values beside a NaN."""
    n, k = logits.shape
    differences = exponentials.reshape(-1)
    for i in range(n):
        largest, broken = -np.inf, False
        for v in range(k):
            value = np.float64(logits[i, v])
            largest, broken = max(largest, value), broken or value != value
        for v in range(k):
            difference = np.float64(logits[i, v]) - largest
            # Infinite ones less themselves are NaN.
            if broken or difference != difference:
                difference = np.float64(0.0)
            differences[i * k + v] = difference if difference >= -LARGEST_LOG_RATIO else -np.inf
    for row in range(len(exponentials)):
        floats.store(exponentials, row, floats.exp_nonpositive(floats.load(exponentials, row)))
    for index in range(n * k):
        prior[index] = differences[index]


@lane_function
def read_priors(prior, first_chain, n_chains, workspace, n_lanes):
    """The priors of the rows of the chains of a block; lanes to spare get that of the last chain."""
    lanes = workspace.prior.shape[1]
    first, last = first_chain // n_chains, (first_chain + n_lanes - 1) // n_chains
    if first == last:
        for index in range(prior.shape[1]):
            floats.store(workspace.prior, index, prior[first, index])
        return
    for lane in range(lanes):
        workspace.prior[:, lane] = prior[(first_chain + min(lane, n_lanes - 1)) // n_chains]


@lane_function
def run_blocks(chains, sums, first_row, workspace):
    """The chains of the rows of some sums, as many at a time as there are lanes."""
    n_chains, lanes = chains.number, workspace.prior.shape[1]
    for start in range(0, sums.annealing.size, lanes):
        n_lanes = min(lanes, sums.annealing.size - start)
        for lane in range(n_lanes):
            index = start + lane
            workspace.chain[lane] = index % n_chains << 16
            workspace.row[lane] = first_row + index // n_chains
        read_priors(sums.prior, start, n_chains, workspace, n_lanes)
        run_block(chains, workspace)
        for lane in range(n_lanes):
            row, chain = (start + lane) // n_chains, (start + lane) % n_chains
            sums.annealing[row, chain] = workspace.annealing[lane]
            sums.final[row, chain] = workspace.final[lane]
        first = 0
        while first < n_lanes:
            row = (start + first) // n_chains
            last = min((row + 1) * n_chains - start, n_lanes)
            add_lanes(workspace.total, first, last, sums.conditionals[row])
            first = last


@lane_function
def add_lanes(total, first, last, conditionals):
    """Columns first .. last - 1 of the total, one after the other, to the conditionals of a row."""
    for index in range(len(conditionals)):
        running = conditionals[index]
        for lane in range(first, last):
            running += total[index, lane]
        conditionals[index] = running


@lane_function
def empty_sums(rows, n_numbers, n_chains):
    """Of no conditional yet, for rows of so many logits."""
    return Sums(
        np.empty((rows, n_numbers), F32),
        np.zeros((rows, n_numbers), F32),
        np.empty((rows, n_chains), np.int64),
        np.empty((rows, n_chains), np.int64),
    )


@lane_function
def write_means(conditionals, scale, marginals):
    """Marginals [N, K] from sums of conditionals [N K]: float32 divided by a number, and then by their sum."""
    n, k = marginals.shape
    for i in range(n):
        total = 0.0
        for v in range(k):
            mean = conditionals[i * k + v] / scale
            marginals[i, v] = mean
            total += np.float64(mean)
        for v in range(k):
            marginals[i, v] = np.float64(marginals[i, v]) / total


@lane_function
def mean_log_weight(annealing, step):
    """Log of the mean over the chains [chains] of exp(-step * conflicts)."""
    least, total = annealing.min(), 0.0
    for conflicts in annealing:
        total += math.exp(-step * (conflicts - least))
    return math.log(total) - step * least - math.log(len(annealing))


@lane_function
def posterior_in(logits, label, chains, results, first, last, workspace):
    """Rows first .. last - 1 of the results."""
    _, n, k = logits.shape
    sums = empty_sums(last - first, n * k, chains.number)
    exponentials = floats.lane_rows(-(-n * k // FLOAT64_LANES), FLOAT64_LANES, np.float64)
    exponentials[-1] = 0.0
    for row in range(first, last):
        read_prior(logits[row], exponentials, sums.prior[row - first])
    run_blocks(chains, sums, chains.first_row + first, workspace)
    for row in range(first, last):
        status = row_status(logits[row], label[row])
        if status == POSSIBLE:
            write_means(sums.conditionals[row - first], F32(chains.number * chains.recorded), results.marginals[row])
            results.log_evidence[row] = mean_log_weight(sums.annealing[row - first], chains.step)
        else:
            write_softmax(logits[row], results.marginals[row])
            results.log_evidence[row] = -np.inf
        results.satisfied[row] = np.count_nonzero(sums.final[row - first] == 0) / chains.number
        results.status[row] = status
