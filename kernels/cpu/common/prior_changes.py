"""How far marginals are from the prior, in one pass over CPU tensors."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.priors import log_softmax
from emnesy_gpu.kernels.cpu.common.row_driver import for_converted_rows, result_dtype

NANOSECONDS_PER_LOGIT = 15.0


def largest_changes(logits: Tensor, marginals: Tensor) -> Tensor:
    """The largest |marginal - prior| of each row, float64 [batch]; logits and marginals [batch, N, K]."""
    found, values = np.empty(len(logits)), marginals.contiguous().numpy()

    def work(rows: slice, logits: np.ndarray) -> None:
        find_changes(logits, values[rows], found[rows])

    row_cost = NANOSECONDS_PER_LOGIT * logits.shape[1:].numel()
    for_converted_rows(work, logits.contiguous(), result_dtype(logits), 1, row_cost)
    return torch.from_numpy(found)


@kernel
def find_changes(logits, marginals, changes):
    """changes [rows] of logits and marginals [rows, N, K]."""
    rows, n, k = logits.shape
    prior = np.empty(k)
    for row in range(rows):
        changes[row] = 0.0
        for i in range(n):
            log_softmax(logits[row, i], prior)
            for v in range(k):
                changes[row] = max(changes[row], abs(marginals[row, i, v] - math.exp(prior[v])))
