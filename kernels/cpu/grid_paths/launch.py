"""Cheapest paths and samples of them, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.grid_paths``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.distance_lanes import DISTANCE_LANES, FEW_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.prior_draws import Prior, Stream
from emnesy_gpu.kernels.cpu.grid_paths.maps import NANOSECONDS_PER_CELL, distance_type, maps_of
from emnesy_gpu.kernels.cpu.grid_paths.samples import (
    change_rows,
    cost_rows,
    few_path_rows,
    histogram_rows,
    path_rows,
    round_rows,
    score_rows,
)


def shortest_path(costs: Tensor, start: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 [batch, H, W] and int32 [batch]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, height, width = costs.shape
    mask, total = np.zeros(costs.shape, np.uint8), np.empty(batch, np.int32)
    maps, starts, goals = (tensor.contiguous().numpy() for tensor in (costs, start, goal))
    numbers = np.zeros(1, distance_type(int(maps.max(initial=0)), height, width))
    on_rows = few_path_rows if batch <= FEW_LANES else path_rows

    def work(first: int, last: int) -> None:
        on_rows(numbers, maps, starts, goals, mask, total, first, last)

    for_rows(work, batch, DISTANCE_LANES, height * width * NANOSECONDS_PER_CELL)
    return torch.from_numpy(mask), torch.from_numpy(total)


def round_costs(costs: Tensor) -> tuple[Tensor, bool]:
    """int32 [..., H, W], costs of any float type in units of the largest of their map, and whether none is NaN or +inf.

    See ``round_rows``.
    """
    height, width = costs.shape[-2:]
    taken = costs if costs.dtype in (torch.float32, torch.float64) else costs.float()
    maps = taken.contiguous().numpy().reshape(-1, height * width)
    bits, rounded = maps.view(np.int32 if maps.itemsize == 4 else np.int64), np.empty(costs.shape, np.int32)
    arrays, sound = (maps, bits, rounded.reshape(maps.shape)), list[bool]()
    for_rows(lambda first, last: sound.append(round_rows(*arrays, first, last)), len(maps), 1, height * width)
    return torch.from_numpy(rounded), all(sound)


def costs_of_classes(classes: Tensor, table: Tensor) -> Tensor | None:
    """int32 [maps, H, W], the costs of classes int64 [..., H, W] by a table int32 [K]; None where one is not in it."""
    height, width = classes.shape[-2:]
    maps, by_class = classes.contiguous().numpy().reshape(-1, height * width), table.numpy()
    costs = np.empty(maps.shape, np.int32)
    known: list[bool] = []
    cost = 0.3 * NANOSECONDS_PER_CELL * height * width
    for_rows(lambda first, last: known.append(cost_rows(by_class, maps, costs, first, last)), len(maps), 1, cost)
    return torch.from_numpy(costs).view(-1, height, width) if all(known) else None


def score(
    thresholds: Tensor,
    costs: Tensor,
    mask: Tensor,
    start: Tensor,
    goal: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> Tensor:
    """int32 [4, batch, n_samples]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, height, width = mask.shape
    scores = np.empty((4, batch, n_samples), np.int32)
    prior = _prior(thresholds, n_samples, seed, first_row, first_sample)
    maps = maps_of(costs, mask, start, goal)

    def work(first: int, last: int) -> None:
        score_rows(prior, maps, scores, first, last)

    for_rows(work, batch, 1, n_samples * height * width * NANOSECONDS_PER_CELL)
    return torch.from_numpy(scores)


def histogram(thresholds: Tensor, weights: Tensor, seed: int, first_row: int, first_sample: int) -> Tensor:
    """int64 [batch, N, K]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, n, steps = thresholds.shape
    total = np.zeros((batch, n, steps + 1), np.int64)
    prior = _prior(thresholds, weights.shape[1], seed, first_row, first_sample)
    of_samples = weights.contiguous().numpy()

    def work(first: int, last: int) -> None:
        histogram_rows(prior, of_samples, total, first, last)

    for_rows(work, batch, 1, weights.shape[1] * n * 1.0)
    return torch.from_numpy(total)


def histogram_of_changes(
    thresholds: Tensor,
    costs: Tensor,
    mask: Tensor,
    start: Tensor,
    goal: Tensor,
    weights: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> Tensor:
    """float64 [batch, N, K]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, height, width = mask.shape
    total = np.zeros((batch, height * width, costs.shape[0]))
    prior = _prior(thresholds, n_samples, seed, first_row, first_sample)
    maps, by_difference = maps_of(costs, mask, start, goal), weights.contiguous().numpy()

    def work(first: int, last: int) -> None:
        change_rows(prior, maps, by_difference, total, first, last)

    for_rows(work, batch, 1, n_samples * height * width * 20 * NANOSECONDS_PER_CELL)
    return torch.from_numpy(total)


def _prior(thresholds: Tensor, n_samples: int, seed: int, first_row: int, first_sample: int) -> Prior:
    return Prior(thresholds.contiguous().numpy(), n_samples, Stream(np.uint64(seed), first_row, first_sample))
