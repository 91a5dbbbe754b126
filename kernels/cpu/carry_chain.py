"""Exact inference on the carry chain of addition, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.carry_chain``. Rows are independent, and have the same bits in
any batch and with any number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu import carry_chain_linear, carry_chain_wide
from emnesy_gpu.kernels.cpu.carry_chain_linear import RECOMPUTE
from emnesy_gpu.kernels.cpu.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.parallel import for_rows

# Rows of half precision are widened this many logits at a time.
WIDENED_LOGITS = 1 << 18


def posterior(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior marginals [like logits], log evidence [batch] and status [batch] of every row."""
    return _sum_product(logits, label, prior_share=0.0, factor=1.0)


def em_gradient(logits: Tensor, label: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale [like logits], log evidence [batch] and status [batch]."""
    return _sum_product(logits, label, prior_share=1.0, factor=-scale)


def map_assignment(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable digits int64 [batch, n_addends, n_digits], their log probability, and status."""
    from emnesy_gpu.kernels.cpu.carry_chain_map import map_rows

    digits = torch.empty(logits.shape[:-1], dtype=torch.int64)
    log_joint = torch.empty(len(logits), dtype=_result_dtype(logits))
    status = torch.empty(len(logits), dtype=torch.uint8)
    for rows in _row_groups(logits):
        arrays = _arrays(_widen(logits[rows]), label[rows], digits[rows], log_joint[rows], status[rows])

        def work(first: int, last: int, arrays=arrays) -> None:
            map_rows(arrays[0], arrays[1], first, last, *arrays[2:])

        for_rows(work, len(arrays[0]), 1, 100.0 * logits[0].numel() / logits.shape[-1])
    return digits, log_joint, status


def sample(
    logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, n_addends, n_digits] from the posterior, and status."""
    from emnesy_gpu.kernels.cpu.carry_chain_sampling import sample_rows

    drawn = torch.empty((n_samples, *logits.shape[:-1]), dtype=torch.int64)
    status = torch.empty(len(logits), dtype=torch.uint8)
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    for rows in _row_groups(logits):
        arrays = _arrays(_widen(logits[rows]), label[rows])
        outputs = _arrays(drawn[:, rows], status[rows])

        def work(first: int, last: int, arrays=arrays, outputs=outputs, row=first_row + rows.start) -> None:
            sample_rows(*arrays, first, last, key, np.int64(row), *outputs)

        for_rows(work, len(arrays[0]), 1, (1000.0 + 300.0 * n_samples) * logits.shape[2])
    return drawn, status


def _sum_product(
    logits: Tensor, label: Tensor, prior_share: float, factor: float
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _result_dtype(logits)
    marginals = torch.empty(logits.shape, dtype=dtype)
    log_evidence = torch.empty(len(logits), dtype=dtype)
    status = torch.empty(len(logits), dtype=torch.uint8)
    for rows in _row_groups(logits):
        arrays = _arrays(_widen(logits[rows]), label[rows], marginals[rows], log_evidence[rows], status[rows])

        def work(first: int, last: int, arrays=arrays) -> None:
            _sum_product_rows(*arrays, first, last, prior_share, factor)

        for_rows(work, len(arrays[0]), FLOAT32_LANES, 2.0 * logits[0].numel())
    return marginals, log_evidence, status


def _sum_product_rows(
    logits, label, marginals, log_evidence, status, first: int, last: int, prior_share: float, factor: float
) -> None:
    wide = np.arange(first, last)
    if logits.dtype == np.float32:
        left = carry_chain_linear.run(
            logits, label, first, last, marginals, log_evidence, status, prior_share, factor
        )
        wide = wide[status[first:last] == RECOMPUTE] if left else wide[:0]
    if len(wide):
        carry_chain_wide.run(
            logits, label, wide, 0, len(wide), marginals, log_evidence, status, prior_share, factor
        )


def _result_dtype(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _row_groups(logits: Tensor) -> list[slice]:
    """All rows at once, or in groups of bounded size where they have to be widened first."""
    batch = len(logits)
    if logits.dtype in (torch.float32, torch.float64):
        return [slice(0, batch)] if batch else []
    size = max(1, WIDENED_LOGITS // logits[0].numel()) if batch else 1
    return [slice(first, min(batch, first + size)) for first in range(0, batch, size)]


def _widen(logits: Tensor) -> Tensor:
    return logits.to(_result_dtype(logits))


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]
