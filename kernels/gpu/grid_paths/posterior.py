"""Launches posteriors over cells by weighted samples of paths on a GPU; contract as in emnesy_gpu.reference.grid_paths."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor, float64, int32, int64, uint8

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.abc_sampling import thresholds
from emnesy_gpu.kernels.gpu.abc_sampling.weights import TO_BEST, TO_TARGET, weights_kernel
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.results import float_dtype
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low
from emnesy_gpu.kernels.gpu.grid_paths.launch import launch_changes, launch_histogram, score
from emnesy_gpu.kernels.gpu.grid_paths.weighting import (
    DIFFERENCE_OF_COST,
    DIFFERING_CELLS,
    EXACT,
    FRACTION_OF_CELLS,
    FRACTION_OF_COST,
    columns_kernel,
    label_kernel,
    results_kernel,
)

_HOW = {
    ("cells", "fraction"): FRACTION_OF_CELLS, ("cells", "exponential"): DIFFERING_CELLS,
    ("cost", "fraction"): FRACTION_OF_COST, ("cost", "exponential"): DIFFERENCE_OF_COST,
}  # fmt: skip


class Labels(NamedTuple):
    """What a label says: mask uint8 [batch, H, W]; start, goal and the number of cells int32, status uint8 [batch]."""

    mask: Tensor
    start: Tensor
    goal: Tensor
    cells: Tensor
    status: Tensor


def posterior(
    logits: Tensor,
    label: Tensor,
    costs: Tensor,
    unit: int,
    how: tuple[str, str],
    exponents: Tensor,
    numbers: tuple[int, float, float],
    seed: int,
    first_row: int,
    rao_blackwell: bool = False,
) -> tuple[Tensor, ...]:
    """Marginals [batch, n, K]; log evidence, status, effective sample size, sharpness, samples with the label [batch].

    numbers: samples, sharpness, target effective sample size or 0. rao_blackwell: with scores of differing cells.
    """
    (batch, n, k), width, (n_samples, sharpness, target_ess) = logits.shape, len(exponents), numbers
    labels = read_labels(logits, label)
    results = _empty_results(logits, labels.status)
    # Counts, matches and sums lie in one piece, so that one launch clears them.
    cleared = logits.new_zeros(batch * (n * k + 1) + -(-batch * width // 2), dtype=int64)
    sums, matches = cleared[: batch * n * k].view(batch, n, k), cleared[batch * n * k : batch * (n * k + 1)]
    counts = cleared[batch * (n * k + 1) :].view(int32)[: batch * width].view(batch, width)
    if batch > 0:
        with torch.cuda.device_of(logits):
            drawn = thresholds(logits)
            facts = score(drawn, costs, *labels[:3], n_samples, seed, first_row, 0)
            columns = counts.new_empty(batch, n_samples)
            columns_kernel[(triton.cdiv(columns.numel(), launch_config.PATH_SCORES),)](
                facts, labels.cells, columns, counts, matches, batch, n, n_samples, width, unit,
                HOW=EXACT if how[1] == "exact" else _HOW[how], LANES=launch_config.PATH_SCORES, **rounded_twice(4),
            )  # fmt: skip
            weights = torch.empty_like(counts, dtype=float64 if rao_blackwell else int32)
            levels = logits.new_empty(batch, dtype=float64)
            block = launch_config.score_block(width)
            weights_kernel[(batch,)](
                exponents, label, counts, weights, levels, levels, labels.status, 1, width,
                *high_and_low(target_ess or sharpness), MODE=(TO_TARGET if target_ess > 0 else TO_BEST).value,
                ONLY_WEIGHTS=True, BLOCK=block, **rounded_twice(4, limit_registers=True),
            )  # fmt: skip
            if rao_blackwell:
                where, sums = (n_samples, seed, first_row, 0), sums.view(float64)
                launch_changes(drawn, (costs, *labels[:3]), weights, sums, where, last_is_best=True)
            else:
                launch_histogram(drawn, weights, sums, n_samples, seed, first_row, columns=columns)
            tile, lanes = launch_config.symbol_tile(k)
            results_kernel[(batch,)](
                logits, exponents, counts, sums, levels, *results, width, n, k, CHANGES=rao_blackwell, BLOCK=block,
                TILE=tile, WIDTH=lanes, **rounded_twice(4, limit_registers=True),
            )  # fmt: skip
    return *results, matches


def read_labels(logits: Tensor, label: Tensor) -> Labels:
    """What labels int64 [batch, H, W] say, and the status of rows of logits [batch, n, K]."""
    batch, n, k = logits.shape
    start, goal, cells = logits.new_empty(3, batch, dtype=int32)
    status = logits.new_empty(batch, dtype=uint8)
    labels = Labels(torch.empty_like(label, dtype=uint8), start, goal, cells, status)
    tile, lanes = launch_config.symbol_tile(k)
    if batch > 0:
        with torch.cuda.device_of(logits):
            label_kernel[(batch,)](logits, label, *labels, n, k, TILE=tile, WIDTH=lanes, **rounded_twice(4))
    return labels


def _empty_results(logits: Tensor, status: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = float_dtype(logits)
    log_evidence, size, level = logits.new_empty(3, len(logits), dtype=dtype)
    return torch.empty_like(logits, dtype=dtype), log_evidence, status, size, level
