"""Launches kernels of cheapest paths and samples of them on a GPU; contracts as in emnesy_gpu.reference.grid_paths."""

from __future__ import annotations

import torch
import triton

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.philox import WORDS
from emnesy_gpu.kernels.gpu.common.scalars import signed
from emnesy_gpu.kernels.gpu.grid_paths.changes import changes_kernel
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
    """Float64 [batch, n, K]: the weights of samples after each change; weights [batch, D] by differing cells."""
    total = weights.new_empty((*thresholds.shape[:2], len(costs)))
    numbers = n_samples, seed, first_row, first_sample
    launch_changes(thresholds, (costs, mask, start, goal), weights, total, numbers, last_is_best=False)
    return total


def launch_changes(
    thresholds: torch.Tensor,
    maps: tuple[torch.Tensor, ...],
    weights: torch.Tensor,
    total: torch.Tensor,
    numbers: tuple[int, int, int, int],
    last_is_best: bool,
) -> None:
    """Write the weights of all changes into the total, float64 [batch, n, K].

    maps: costs, mask, start, goal. weights: float64 [batch, D] by the number of differing cells; last_is_best: the other
    way round. numbers: samples, seed, first row, first sample.
    """
    costs, mask, start, goal = maps
    (batch, height, width), differences = mask.shape, weights.shape[1]
    config = launch_config.grid_paths(batch * height * width, height, width)
    scratch = costs.new_empty(config.programs * config.scratch)
    n_samples, seed, first_row, first_sample = numbers
    first, step = (differences - 1, -1) if last_is_best else (0, 1)
    if batch > 0:
        with torch.cuda.device_of(thresholds):
            changes_kernel[(config.programs,)](
                thresholds, costs, mask, start, goal, weights, total, scratch, batch, height, width, differences, first,
                step, n_samples, signed(seed), first_row, first_sample, STEPS=thresholds.shape[2],
                LANES=launch_config.next_power_of_two(len(costs)), TILE=launch_config.GRID_MAPS,
                **rounded_twice(1, limit_registers=True),
            )  # fmt: skip
