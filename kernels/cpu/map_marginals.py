"""Writes the posterior of hard EM, on CPU tensors; contract as in emnesy_gpu.reference.map_marginals."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.priors import log_softmax
from emnesy_gpu.kernels.cpu.common.row_driver import for_converted_rows, result_dtype

NANOSECONDS_PER_LOGIT = 1.0


def map_marginals(logits: Tensor, assignment: Tensor, possible: Tensor) -> Tensor:
    """The posterior [batch, n, K] of logits [batch, n, K], an assignment [batch, n] and possible rows [batch]."""
    marginals = np.empty(logits.shape, result_dtype(logits))
    chosen, flags = assignment.contiguous().numpy(), possible.contiguous().numpy()

    def work(rows: slice, logits: np.ndarray) -> None:
        write_rows(logits, chosen[rows], flags[rows], marginals[rows])

    row_cost = NANOSECONDS_PER_LOGIT * logits.shape[1:].numel()
    for_converted_rows(work, logits.contiguous(), marginals.dtype.type, 1, row_cost)
    return torch.from_numpy(marginals)


@kernel
def write_rows(logits, chosen, possible, marginals):
    """1 at the value of each symbol, or the prior in a row that is not possible."""
    batch, n, k = logits.shape
    prior = np.empty(k)
    for row in range(batch):
        if possible[row]:
            marginals[row] = 0
            for i in range(n):
                value = chosen[row, i]
                if 0 <= value < k:  # problems of users choose too
                    marginals[row, i, value] = 1
        else:
            for i in range(n):
                log_softmax(logits[row, i], prior)
                for v in range(k):
                    marginals[row, i, v] = math.exp(prior[v])
