"""The most probable of a list of assignments. Samples lie in float64 lanes; scores are sums of raw logits.

Sums run over the symbols in ascending order and maxima over the list with a strict comparison, so that ties go to the
lowest index.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.few_rows import Call, new_assignment
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_doubles, scratch
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES, filled, load, maximum, store, where_less
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.symbol_rows import count_left, log_softmax, row_status
from emnesy_gpu.kernels.logits import LARGEST_LOGIT
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE

MAP_COST = 0.1
"""Rough nanoseconds of a symbol of an assignment, for one row."""


class Results(NamedTuple):
    """The best assignment of each row."""

    chosen: np.ndarray  # int64 [batch, N]
    log_joint: np.ndarray  # [batch], in the float type of the result
    status: np.ndarray  # uint8 [batch]


def run(logits: np.ndarray, label: np.ndarray, assignments: np.ndarray, results: Results) -> None:
    """The best assignment of every row; logits float32 or float64 [batch, N, K], assignments uint8 [M, N]."""
    scores, best = scratch(logits[0].size, np.float64), scratch(1, np.float64)
    best_of_list(logits, label, assignments, *results, scores, best)


@lane_function
def best_index(assignments, k, scores):
    """The index of the best assignment, and -1 where all are impossible; scores [N K, lanes]."""
    best, best_score = filled(scores, -1.0), filled(scores, -np.inf)
    for m in range(len(assignments)):
        score = filled(scores, 0.0)
        for i in range(assignments.shape[1]):
            score += load(scores, i * k + assignments[m, i])
        best = where_less(best_score, score, m, best)
        best_score = maximum(score, best_score)
    return best


@lane_function
def most_probable_values(logits, chosen):
    """The value of the largest logit [N, K] of every symbol by itself, the lowest of equal ones."""
    n, k = logits.shape
    for i in range(n):
        best = 0
        for v in range(1, k):
            if logits[i, v] > logits[i, best]:
                best = v
        chosen[i] = best


@kernel
def best_of_list(logits, label, assignments, chosen, log_joint, status, scores, best):
    """FLOAT64_LANES rows at a time; lanes to spare repeat the last row."""
    batch, n, k = logits.shape
    table = np.empty(n * k)
    for start in range(0, batch, FLOAT64_LANES):
        for lane in range(FLOAT64_LANES):
            row = min(start + lane, batch - 1)
            for i in range(n):
                for v in range(k):
                    scores[i * k + v, lane] = logits[row, i, v]
        store(best, 0, best_index(assignments, k, scores))
        for row in range(start, min(start + FLOAT64_LANES, batch)):
            m = int(best[0, row - start])
            code = row_status(logits[row], label[row])
            if code == POSSIBLE and m < 0:
                code = IMPOSSIBLE
            status[row] = code
            log_joint[row] = -np.inf
            if code == POSSIBLE:
                log_softmax(logits[row], table)
                total = 0.0
                for i in range(n):
                    chosen[row, i] = assignments[m, i]
                    total += table[i * k + assignments[m, i]]
                log_joint[row] = total
            else:
                most_probable_values(logits[row], chosen[row])


def map_call_of(assignments: Tensor, n_values: int) -> Call:
    """How the most probable assignment of few rows is found; it keeps the list."""
    listed = assignments.contiguous()
    n_listed, n = listed.shape
    rows, most_rows = n * n_values + 1, most_of_one_range(MAP_COST * listed.numel())  # scores, and the best

    def work(batch: int) -> np.ndarray:
        return kept_doubles(rows, one_lane=False)

    return Call(best_of_few_rows, most_rows, (listed.data_ptr(), n_listed, n, n_values), work, listed, new_assignment)


@kernel
def best_of_few_rows(logits, label, chosen, log_joint, status, batch, listed, n_listed, n, k, work):
    """``best_of_list`` of few float32 rows with label 1 by their addresses. Returns how many rows are left."""
    single, scores = np.float32(0), n * k
    logits, label = numbers_at(logits, batch * scores, single), numbers_at(label, batch, np.int64(0))
    if any_beyond(logits, np.float32(LARGEST_LOGIT)):
        return batch
    for row in range(batch):
        if label[row] != 1:
            return batch
    listed, chosen = matrix_at(listed, n_listed, n, np.uint8(0)), matrix_at(chosen, batch, n, np.int64(0))
    log_joint, status = numbers_at(log_joint, batch, single), numbers_at(status, batch, np.uint8(0))
    logits, best = logits.reshape(batch, n, k), work[scores : scores + 1]
    best_of_list(logits, label, listed, chosen, log_joint, status, work[:scores], best)
    return count_left(status)
