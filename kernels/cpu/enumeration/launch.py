"""Exact inference over a list of valid assignments, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.enumeration``. Rows are independent, and have the same bits in any
batch and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.enumeration import circuit

# Logits of half precision are converted about this many at a time.
CONVERTED_LOGITS = 1 << 18


def posterior(logits: Tensor, label: Tensor, assignments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [like logits], log evidence [batch] and status [batch]."""
    shape, dtype = logits.shape, _result_dtype(logits)
    results = np.empty(shape, dtype), np.empty(shape[0], dtype), np.empty(shape[0], np.uint8)
    valid = assignments.numpy()

    def work(rows: slice, logits: np.ndarray, label: np.ndarray) -> None:
        some = (array[rows] for array in results)
        circuit.run(logits, label, valid, *some)

    _for_rows(work, logits, label, 0.5 * assignments.numel())
    marginals, log_evidence, status = map(torch.from_numpy, results)
    return marginals, log_evidence, status


def map_assignment(logits: Tensor, label: Tensor, assignments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable assignment int64 [batch, N], its log probability [batch], and status [batch]."""
    from emnesy_gpu.kernels.cpu.enumeration import most_probable

    batch, n, _ = logits.shape
    results = np.empty((batch, n), np.int64), np.empty(batch, _result_dtype(logits)), np.empty(batch, np.uint8)
    valid = assignments.numpy()

    def work(rows: slice, logits: np.ndarray, label: np.ndarray) -> None:
        some = (array[rows] for array in results)
        most_probable.run(logits, label, valid, *some)

    _for_rows(work, logits, label, 0.1 * assignments.numel())
    chosen, log_joint, status = map(torch.from_numpy, results)
    return chosen, log_joint, status


def sample(
    logits: Tensor, label: Tensor, assignments: Tensor, n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, N] from the posterior, and status [batch]."""
    from emnesy_gpu.kernels.cpu.enumeration.log_space import sample_rows

    drawn = np.empty((n_samples, *logits.shape[:2]), np.int64)
    status = np.empty(logits.shape[0], np.uint8)
    valid, key = assignments.numpy(), np.uint64(seed & 0xFFFFFFFFFFFFFFFF)

    def work(rows: slice, logits: np.ndarray, label: np.ndarray) -> None:
        row = np.int64(first_row + rows.start)
        sample_rows(logits, label, valid, key, row, drawn[:, rows], status[rows])

    _for_rows(work, logits, label, 1.0 * assignments.numel() + 100.0 * n_samples)
    return torch.from_numpy(drawn), torch.from_numpy(status)


def _result_dtype(logits: Tensor) -> type[np.floating]:
    return np.float64 if logits.dtype == torch.float64 else np.float32


def _for_rows(
    work: Callable[[slice, np.ndarray, np.ndarray], Any], logits: Tensor, label: Tensor, nanoseconds: float
) -> None:
    """Call work(rows, their logits, their labels) until all rows are done; half precision becomes float32."""
    logits, labels = logits.detach(), label.numpy()
    batch = logits.shape[0]
    if batch == 0:
        return
    if logits.dtype in (torch.float32, torch.float64):
        values = logits.numpy()

        def on_range(first: int, last: int) -> None:
            rows = slice(first, last)
            work(rows, values[rows], labels[rows])
    else:
        size = FLOAT64_LANES * max(1, CONVERTED_LOGITS // (logits[0].numel() * FLOAT64_LANES))

        def on_range(first: int, last: int) -> None:
            for start in range(first, last, size):
                rows = slice(start, min(start + size, last))
                work(rows, logits[rows].float().numpy(), labels[rows])

    for_rows(on_range, batch, FLOAT64_LANES, nanoseconds)
