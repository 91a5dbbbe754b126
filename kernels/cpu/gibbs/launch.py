"""Runs annealed Gibbs chains on CPU tensors; the contract is in ``emnesy_gpu.reference.gibbs``.

Kernels take tensors by their addresses: arrays would cost a call of one row more than two sweeps do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.parallel import for_rows, is_one_range
from emnesy_gpu.kernels.cpu.common.pointers import numbers_at
from emnesy_gpu.kernels.cpu.common.symbol_rows import row_status
from emnesy_gpu.kernels.cpu.gibbs.chains import LANES, chains_at, empty_workspace, half_of
from emnesy_gpu.kernels.cpu.gibbs.rows import Results, posterior_in
from emnesy_gpu.kernels.logits import LARGEST_LOGIT
from emnesy_gpu.kernels.status import POSSIBLE

NANOSECONDS_PER_LOGIT, NANOSECONDS_PER_VALUE = 10.0, 1.5
"""Rough ones: of the prior, and of a draw."""

LIKE: dict[torch.dtype, Any] = {torch.float32: np.float32(0), torch.float64: np.float64(0)}

ChainResults = tuple[Tensor, Tensor, Tensor, Tensor]
"""Marginals like the logits, log evidence, share of chains without a conflict, status: all but the first [batch]."""


class Told(NamedTuple):
    """What the chains of all rows are told, besides logits and labels: see the reference."""

    factors: Tensor
    memberships: Tensor
    n_groups: int
    chains: int
    recorded: int
    seed: int
    first_row: int
    step: float


def posterior(logits: Tensor, label: Tensor, *told: Any) -> ChainResults:
    """All steps of the reference in one kernel; logits [batch, N, K] and label are contiguous. told: ``Told``."""
    taken, chains = logits if logits.dtype in LIKE else logits.float(), Told(*told)
    batch, results, cost = taken.shape[0], new_results(taken), row_cost(taken, chains)

    def work(first: int, last: int) -> None:
        # Refers to the tensors, so that they outlive a call that is interrupted: its ranges go on alone.
        posterior_rows(*arguments_of(taken, label, results, chains), False, first, last)

    for_rows(work, batch, max(1, LANES // chains.chains), cost)
    return results


def few_rows(logits: Tensor, label: Tensor, *told: Any) -> ChainResults | None:
    """The same for few float32 rows [batch, *symbols, K] by the shortest way.

    None where there are more rows, or where one has label 0, no prior or a logit beyond +-LARGEST_LOGIT.
    """
    batch, chains = logits.shape[0], Told(*told)
    if logits.dtype is not torch.float32 or not is_one_range(batch, row_cost(logits, chains)):
        return None
    logits, label = logits.contiguous(), label.contiguous()
    results = new_results(logits)
    return None if posterior_rows(*arguments_of(logits, label, results, chains), True, 0, batch) else results


def row_cost(logits: Tensor, told: Told) -> float:
    """Rough nanoseconds."""
    size = told.memberships.shape[0] * logits.shape[-1]
    return NANOSECONDS_PER_LOGIT * size + told.factors.shape[0] * told.chains * size * NANOSECONDS_PER_VALUE


def new_results(logits: Tensor) -> ChainResults:
    """Uninitialised. NumPy makes small arrays sooner than torch does."""
    batch, dtype = logits.shape[0], LIKE[logits.dtype].dtype
    log_evidence, satisfied = torch.from_numpy(np.empty(batch, dtype)), torch.from_numpy(np.empty(batch, dtype))
    return torch.empty_like(logits), log_evidence, satisfied, torch.from_numpy(np.empty(batch, np.uint8))


def arguments_of(logits: Tensor, label: Tensor, results: ChainResults, told: Told) -> tuple[Any, ...]:
    """Those of the kernel, but for the last three; all tensors must outlive the call."""
    factors, memberships, n_groups, chains, recorded, seed, first_row, step = told
    shape = logits.shape[0], memberships.shape[0], logits.shape[-1]
    addresses = logits.data_ptr(), label.data_ptr(), *[result.data_ptr() for result in results]
    tables = factors.data_ptr(), memberships.data_ptr()
    # Plain tuples: telling the type of a named one takes longer.
    numbers = n_groups, chains, recorded, step, seed, first_row
    return addresses, shape, tables, (*factors.shape, *memberships.shape), numbers, LIKE[logits.dtype]


@kernel
def posterior_rows(addresses, shape, tables, shape_of_tables, numbers, like, only_ordinary, first, last):
    """Rows first .. last - 1; returns how many are left: all of them, if only ordinary ones are wanted and one is not.

    like: a number of the type of logits and results.
    """
    batch, n, k = shape
    logits = numbers_at(addresses[0], batch * n * k, like).reshape(shape)
    label = numbers_at(addresses[1], batch, np.int64(0))
    if only_ordinary and not are_ordinary(logits, label):
        return last - first
    results = Results(
        numbers_at(addresses[2], batch * n * k, like).reshape(shape),
        numbers_at(addresses[3], batch, like),
        numbers_at(addresses[4], batch, like),
        numbers_at(addresses[5], batch, np.uint8(0)),
    )
    chains = chains_at(tables, shape_of_tables, k, numbers)
    workspace = empty_workspace(n, k, chains)
    if (last - first) * chains.number <= LANES // 2:
        posterior_in(logits, label, chains, results, first, last, half_of(workspace))
    else:
        posterior_in(logits, label, chains, results, first, last, workspace)
    return 0


@lane_function
def are_ordinary(logits, label):
    """Whether all rows have label 1 and a prior, of logits that count as they are."""
    for row in range(len(label)):
        if label[row] != 1 or row_status(logits[row], label[row]) != POSSIBLE:
            return False
    return not any_beyond(logits.reshape(-1), logits.dtype.type(LARGEST_LOGIT))
