"""Launches kernels of cheapest paths and samples of them on a GPU; contracts as in emnesy_gpu.reference.grid_paths."""

from __future__ import annotations

import torch
import triton

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.philox import WORDS
from emnesy_gpu.kernels.gpu.common.scalars import signed
from emnesy_gpu.kernels.gpu.grid_paths.path import path_kernel
from emnesy_gpu.kernels.gpu.grid_paths.sampling import histogram_kernel, score_kernel


def shortest_path(costs: torch.Tensor, start: torch.Tensor, goal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks uint8 [batch, height, width] and costs [batch] of the cheapest paths. Sums of costs must be below 2^30."""
    batch, height, width = costs.shape
    mask, total = torch.zeros_like(costs, dtype=torch.uint8), torch.empty_like(start)
    config = launch_config.grid_paths(triton.cdiv(batch, launch_config.GRID_MAPS), height, width)
    scratch = costs.new_empty(config.programs * config.scratch)
    if batch > 0:
        with torch.cuda.device_of(costs):
            path_kernel[(config.programs,)](
                costs, start, goal, mask, total, scratch, batch, height, width,
                TILE=launch_config.GRID_MAPS, **rounded_twice(1),
            )  # fmt: skip
    return mask, total


def score(
    thresholds: torch.Tensor,
    costs: torch.Tensor,
    mask: torch.Tensor,
    start: torch.Tensor,
    goal: torch.Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> torch.Tensor:
    """Int32 [4, batch, n_samples]: cells shared with the mask, length, cost of the path, cost of the mask."""
    batch, height, width = mask.shape
    scores = costs.new_empty((4, batch, n_samples))
    tiles = triton.cdiv(n_samples, launch_config.GRID_MAPS)
    config = launch_config.grid_paths(batch * tiles, height, width)
    scratch = costs.new_empty(config.programs * config.scratch)
    if scores.numel() > 0:
        with torch.cuda.device_of(thresholds):
            score_kernel[(config.programs,)](
                thresholds, costs, mask, start, goal, scores, scratch, batch, height, width, n_samples, tiles,
                signed(seed), first_row, first_sample,
                STEPS=thresholds.shape[2], TILE=launch_config.GRID_MAPS, **rounded_twice(1),
            )  # fmt: skip
    return scores


def histogram(
    thresholds: torch.Tensor, weights: torch.Tensor, seed: int, first_row: int, first_sample: int
) -> torch.Tensor:
    """Int64 [batch, n, K]: the weights [batch, n_samples] of the samples by the value of every symbol."""
    batch, n, steps = thresholds.shape
    total = thresholds.new_zeros((batch, n, steps + 1), dtype=torch.int64)
    launch_histogram(thresholds, weights, total, weights.shape[1], seed, first_row, first_sample)
    return total


def launch_histogram(
    thresholds: torch.Tensor,
    weights: torch.Tensor,
    total: torch.Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int = 0,
    columns: torch.Tensor | None = None,
) -> None:
    """Add the weights of samples to the total; they are weights[row, column] where there are columns."""
    batch, n, steps = thresholds.shape
    if batch > 0:
        with torch.cuda.device_of(thresholds):
            histogram_kernel[(batch * triton.cdiv(n, WORDS.value),)](
                thresholds, weights, weights if columns is None else columns, total, batch, n, n_samples,
                weights.shape[1], signed(seed), first_row, first_sample, STEPS=steps, INDIRECT=columns is not None,
                TILE=launch_config.GRID_MAPS, **rounded_twice(1),
            )  # fmt: skip


def histogram_of_changes(
    thresholds: torch.Tensor,
    costs: torch.Tensor,
    mask: torch.Tensor,
    start: torch.Tensor,
    goal: torch.Tensor,
    weights: torch.Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> torch.Tensor:
    """Runs on the CPU: the paths around blocked cells leave nothing to share between the threads of a GPU."""
    from emnesy_gpu.kernels.cpu.grid_paths import launch as cpu

    histogram = cpu.histogram_of_changes(
        thresholds.cpu(), costs.cpu(), mask.cpu(), start.cpu(), goal.cpu(), weights.cpu(), n_samples, seed, first_row,
        first_sample,
    )  # fmt: skip
    return histogram.to(mask.device)
