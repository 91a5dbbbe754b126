"""Rows of chains that nothing has moved: their marginals are those of the prior, in one pass over CPU tensors."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.priors import log_softmax
from emnesy_gpu.kernels.cpu.common.row_driver import for_converted_rows, result_dtype

NANOSECONDS_PER_VALUE = 15.0


def count_unmoved(
    logits: Tensor, marginals: Tensor, log_evidence: Tensor, satisfied: Tensor, limits: tuple[float, float, float]
) -> int:
    """How many rows are below all limits: of satisfied chains, log evidence, and |marginal - prior| of every marginal.

    logits, marginals: [batch, N, K]; the others [batch].
    """
    counts: list[int] = []
    results = marginals.contiguous().numpy(), log_evidence.numpy(), satisfied.numpy()

    def work(rows: slice, logits: np.ndarray) -> None:
        counts.append(unmoved_rows(logits, *(result[rows] for result in results), *limits))

    # One symbol of a row says most often that it has moved.
    for_converted_rows(work, logits.contiguous(), result_dtype(logits), 1, NANOSECONDS_PER_VALUE * logits.shape[2])
    return sum(counts)


@kernel
def unmoved_rows(logits, marginals, log_evidence, satisfied, least_satisfied, least_evidence, least_change):
    """Of logits and marginals [rows, N, K]."""
    count, prior = 0, np.empty(logits.shape[2])
    for row in range(len(logits)):
        if satisfied[row] < least_satisfied and log_evidence[row] < least_evidence:
            count += not has_changed(logits[row], marginals[row], least_change, prior)
    return count


@lane_function
def has_changed(logits, marginals, least, prior):
    """Whether some marginal [N, K] is so far from the prior, which has room for one symbol."""
    for i in range(len(logits)):
        log_softmax(logits[i], prior)
        for v in range(len(prior)):
            if abs(marginals[i, v] - math.exp(prior[v])) >= least:
                return True
    return False
