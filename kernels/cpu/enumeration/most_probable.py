"""The most probable of a list of assignments. Samples lie in float64 lanes; scores are sums of raw logits.

Sums run over the symbols in ascending order and maxima over the list with a strict comparison, so that ties go to the
lowest index.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES, filled, load, maximum, scratch, store, where_less
from emnesy_gpu.kernels.cpu.common.symbol_rows import log_softmax, row_status
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


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
