"""Writes the posterior of hard EM, on CPU tensors; contract as in emnesy_gpu.reference.map_marginals."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.parallel import is_one_range
from emnesy_gpu.kernels.cpu.common.pointers import address_of, matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.priors import log_softmax
from emnesy_gpu.kernels.cpu.common.row_driver import for_converted_rows, result_dtype

NANOSECONDS_PER_LOGIT = 1.0

FIRST, SECOND = np.eye(2, dtype=np.float32).view(np.int64)[:, 0]
NEITHER = np.int64(0)

LIKE = {torch.float32: np.float32(0), torch.float64: np.float64(0)}


def map_marginals(logits: Tensor, assignment: Tensor, possible: Tensor) -> Tensor:
    """The posterior [batch, n, K] of logits [batch, n, K], an assignment [batch, n] and possible rows [batch]."""
    batch, n, k = logits.shape
    logits, assignment, possible = logits.contiguous(), assignment.contiguous(), possible.contiguous()
    # Kernels that take addresses are not told the types: those of a problem of a user may be others.
    if assignment.dtype is not torch.int64 or possible.dtype is not torch.bool:
        assignment, possible = assignment.long(), possible.bool()
    if logits.dtype in LIKE and is_one_range(batch, NANOSECONDS_PER_LOGIT * n * k):
        written = torch.empty_like(logits)
        addresses = logits.data_ptr(), assignment.data_ptr(), possible.data_ptr(), written.data_ptr()
        write_rows(*addresses, batch, n, k, LIKE[logits.dtype])
        return written
    marginals = np.empty(logits.shape, result_dtype(logits))
    chosen, flags, like = assignment.numpy(), possible.numpy(), marginals.dtype.type(0)

    def work(rows: slice, logits: np.ndarray) -> None:
        addresses = [address_of(array) for array in (logits, chosen[rows], flags[rows], marginals[rows])]
        write_rows(*addresses, len(logits), n, k, like)

    for_converted_rows(work, logits, marginals.dtype.type, 1, NANOSECONDS_PER_LOGIT * n * k)
    return torch.from_numpy(marginals)


@kernel
def write_rows(logits, chosen, possible, marginals, batch, n, k, like):
    """1 at the value of each symbol, or the prior in a row that is not possible; arrays by their addresses."""
    possible, symbols = numbers_at(possible, batch, np.uint8(0)), matrix_at(chosen, batch, n, np.int64(0))
    logits, rows = matrix_at(logits, batch * n, k, like), matrix_at(marginals, batch * n, k, like)
    of_pairs = k == 2 and rows.itemsize == 4
    if of_pairs:
        write_pairs(numbers_at(chosen, batch * n, np.int64(0)), numbers_at(marginals, batch * n, np.int64(0)))
    for row in range(batch):
        some = slice(row * n, (row + 1) * n)
        if not possible[row]:
            write_prior(logits[some], rows[some])
        elif not of_pairs:
            write_one_hot(symbols[row], rows[some])


@lane_function
def write_one_hot(chosen, marginals):
    n, k = marginals.shape
    marginals[:] = 0
    for i in range(n):
        value = chosen[i]
        if 0 <= value < k:  # problems of users choose too
            marginals[i, value] = 1


@lane_function
def write_pairs(chosen, pairs):
    """The same of two float32 values as one number, without a branch: on vectors, in an eighth of the time."""
    for i in range(len(chosen)):
        pairs[i] = (FIRST if chosen[i] == 0 else NEITHER) | (SECOND if chosen[i] == 1 else NEITHER)


@lane_function
def write_prior(logits, marginals):
    n, k = marginals.shape
    prior = np.empty(k)
    for i in range(n):
        log_softmax(logits[i], prior)
        for v in range(k):
            marginals[i, v] = math.exp(prior[v])
