"""Exact inference over a list of valid assignments, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.enumeration``. Rows are independent, and have the same bits in any
batch and with any number of threads.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.few_rows import Call, FewRowResults, on_few_rows
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES
from emnesy_gpu.kernels.cpu.common.row_driver import (
    Combination,
    Method,
    Results,
    for_converted_rows,
    result_dtype,
    run_rows,
)
from emnesy_gpu.kernels.cpu.enumeration import addressed, circuit
from emnesy_gpu.kernels.cpu.enumeration.circuit import ASSIGNMENT_COST


def posterior(logits: Tensor, label: Tensor, assignments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [like logits], log evidence [batch] and status [batch]."""
    return _sum_product(logits, label, assignments, Combination(prior_share=0.0, factor=1.0))


def em_gradient(logits: Tensor, label: Tensor, assignments: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale [like logits], log evidence [batch] and status [batch]."""
    return _sum_product(logits, label, assignments, Combination(prior_share=1.0, factor=-scale))


def few_rows(
    logits: Tensor, label: Tensor, assignments: Tensor, prior_share: float, factor: float
) -> FewRowResults | None:
    """Marginals or gradient [like logits], log evidence and possible of few float32 rows by the shortest way.

    None where there are more rows, or where one has label 0, no posterior, little evidence or a logit beyond
    +-LARGEST_LOGIT. logits: [batch, *symbols, K].
    """
    return on_few_rows(addressed.call_of(assignments, logits.shape[-1]), logits, label, prior_share, factor)


def _sum_product(
    logits: Tensor, label: Tensor, assignments: Tensor, combination: Combination
) -> tuple[Tensor, Tensor, Tensor]:
    batch, dtype = logits.shape[0], result_dtype(logits)
    results = Results(np.empty(logits.shape, dtype), np.empty(batch, dtype), np.empty(batch, np.uint8))
    arguments = circuit.listed(assignments, logits.shape[2])
    method = Method(dtype, partial(circuit.run, *arguments, combination))
    run_rows([method], logits, label.numpy(), results, FLOAT64_LANES, ASSIGNMENT_COST * assignments.numel())
    marginals, log_evidence, status = map(torch.from_numpy, results)
    return marginals, log_evidence, status


def map_call_of(assignments: Tensor, n_values: int) -> Call:
    """How the most probable assignment of few rows is found."""
    from emnesy_gpu.kernels.cpu.enumeration import most_probable

    return most_probable.map_call_of(assignments, n_values)


def map_assignment(logits: Tensor, label: Tensor, assignments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable assignment int64 [batch, N], its log probability [batch], and status [batch]."""
    from emnesy_gpu.kernels.cpu.enumeration import most_probable

    (batch, n, _), dtype = logits.shape, result_dtype(logits)
    results = most_probable.Results(np.empty((batch, n), np.int64), np.empty(batch, dtype), np.empty(batch, np.uint8))
    labels, valid = label.numpy(), assignments.numpy()

    def work(rows: slice, logits: np.ndarray) -> None:
        some = most_probable.Results(*(array[rows] for array in results))
        most_probable.run(logits, labels[rows], valid, some)

    for_converted_rows(work, logits, dtype, FLOAT64_LANES, most_probable.MAP_COST * assignments.numel())
    chosen, log_joint, status = map(torch.from_numpy, results)
    return chosen, log_joint, status


def sample(
    logits: Tensor, label: Tensor, assignments: Tensor, n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, N] from the posterior, and status [batch]."""
    from emnesy_gpu.kernels.cpu.enumeration.sampling import sample_rows

    drawn = np.empty((n_samples, *logits.shape[:2]), np.int64)
    status = np.empty(logits.shape[0], np.uint8)
    labels, valid = label.numpy(), assignments.numpy()
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)

    def work(rows: slice, logits: np.ndarray) -> None:
        sample_rows(logits, labels[rows], valid, drawn, status, rows.start, key, np.int64(first_row))

    row_cost = 1.0 * assignments.numel() + 100.0 * n_samples
    for_converted_rows(work, logits, result_dtype(logits), FLOAT64_LANES, row_cost)
    return torch.from_numpy(drawn), torch.from_numpy(status)
