"""Exact inference on the carry chain of addition, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.carry_chain``. Rows are independent, and have the same bits in
any batch and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.carry_chain import probabilities
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows

# Rows whose logits have to be converted are taken about this many logits at a time.
CONVERTED_LOGITS = 1 << 18


def posterior(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior marginals [like logits], log evidence [batch] and status [batch] of every row."""
    return _sum_product(logits, label, prior_share=0.0, factor=1.0)


def em_gradient(logits: Tensor, label: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale [like logits], log evidence [batch] and status [batch]."""
    return _sum_product(logits, label, prior_share=1.0, factor=-scale)


def map_assignment(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable digits int64 [batch, n_addends, n_digits], their log probability, and status."""
    from emnesy_gpu.kernels.cpu.carry_chain.most_probable import map_rows

    digits = np.empty(logits.shape[:-1], np.int64)
    log_joint, status = _row_results(logits)
    arrays = label.numpy(), digits, log_joint, status
    for rows, converted in _in_dtype(logits, torch.float64):
        labels, *results = (array[rows] for array in arrays)

        def work(first: int, last: int, converted=converted, labels=labels, results=results) -> None:
            map_rows(converted, labels, first, last, *results)

        for_rows(work, len(converted), 1, 10.0 * converted[0].size)
    return torch.from_numpy(digits), torch.from_numpy(log_joint), torch.from_numpy(status)


def sample(logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, n_addends, n_digits] from the posterior, and status."""
    from emnesy_gpu.kernels.cpu.carry_chain.sampling import sample_rows

    drawn = np.empty((n_samples, *logits.shape[:-1]), np.int64)
    _, status = _row_results(logits)
    labels, key = label.numpy(), np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    for rows, converted in _in_dtype(logits, torch.float64):
        arrays = labels[rows], drawn[:, rows], status[rows]

        def work(first: int, last: int, converted=converted, arrays=arrays, row=first_row + rows.start) -> None:
            sample_rows(converted, arrays[0], first, last, key, np.int64(row), *arrays[1:])

        for_rows(work, len(converted), 1, (1000.0 + 300.0 * n_samples) * logits.shape[2])
    return torch.from_numpy(drawn), torch.from_numpy(status)


def _sum_product(logits: Tensor, label: Tensor, prior_share: float, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """float32 rows in probabilities; what that leaves, and float64 rows, with wide exponents."""
    log_evidence, status = _row_results(logits)
    marginals = np.empty(logits.shape, log_evidence.dtype)
    arrays = label.numpy(), marginals, log_evidence, status
    wide = logits.dtype == torch.float64
    rows_work: Callable[..., None] = _rows_with_wide_exponents if wide else _rows_in_probabilities
    for rows, converted in _in_dtype(logits, torch.float64 if wide else torch.float32):

        def work(first: int, last: int, converted=converted, offset=rows.start) -> None:
            some = slice(offset + first, offset + last)
            rows_work(converted[first:last], *(array[some] for array in arrays), prior_share, factor)

        for_rows(work, len(converted), FLOAT32_LANES, (12.0 if wide else 2.0) * converted[0].size)
    return torch.from_numpy(marginals), torch.from_numpy(log_evidence), torch.from_numpy(status)


def _rows_in_probabilities(logits, label, marginals, log_evidence, status, prior_share: float, factor: float) -> None:
    left = probabilities.run(logits, label, marginals, log_evidence, status, prior_share, factor)
    if left == 0:
        return
    rows = np.flatnonzero(status == probabilities.RECOMPUTE)
    size = max(1, CONVERTED_LOGITS // logits[0].size)
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        wide_marginals, wide_evidence = np.empty((len(some), *logits.shape[1:])), np.empty(len(some))
        wide_status = np.empty(len(some), np.uint8)
        results = wide_marginals, wide_evidence, wide_status
        _rows_with_wide_exponents(logits[some].astype(np.float64), label[some], *results, prior_share, factor)
        marginals[some], log_evidence[some], status[some] = results


def _rows_with_wide_exponents(
    logits, label, marginals, log_evidence, status, prior_share: float, factor: float
) -> None:
    from emnesy_gpu.kernels.cpu.carry_chain import wide_exponents

    wide_exponents.run(logits, label, marginals, log_evidence, status, prior_share, factor)


def _row_results(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Uninitialised: one float of the result dtype per row, and the status of each row."""
    batch = logits.shape[0]
    return np.empty(batch, np.float64 if logits.dtype == torch.float64 else np.float32), np.empty(batch, np.uint8)


def _in_dtype(logits: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the batch and their logits: all at once, or few at a time where they have to be converted."""
    logits = logits.detach()
    batch = logits.shape[0]
    if batch == 0:
        return
    if logits.dtype == dtype:
        yield slice(0, batch), logits.numpy()
        return
    size = max(1, CONVERTED_LOGITS // logits[0].numel())
    for first in range(0, batch, size):
        rows = slice(first, min(batch, first + size))
        yield rows, logits[rows].to(dtype).numpy()
