"""Launches fused sampling on a GPU; contracts as in emnesy_gpu.reference.abc_sampling.

A thread draws several samples at once, so that it reads every threshold and table entry once for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.abc_sampling.kernels import draw_kernel, weigh_kernel
from emnesy_gpu.kernels.gpu.abc_sampling.weights import prior_kernel
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.scalars import signed


def thresholds(logits: torch.Tensor) -> torch.Tensor:
    """Thresholds int32 [batch, n, K - 1] of logits [batch, n, K]."""
    batch, n, k = logits.shape
    result = logits.new_empty(batch, n, k - 1, dtype=torch.int32)
    if batch > 0:
        with torch.cuda.device_of(logits):
            prior_kernel[(batch,)](
                logits, logits, result, result, result, n, k, LABELLED=False, LANES=launch_config.ABC_SYMBOLS,
                **rounded_twice(1),
            )  # fmt: skip
    return result


def draw(thresholds: torch.Tensor, n_samples: int, seed: int, first_row: int, first_sample: int) -> torch.Tensor:
    """Samples int64 [n_samples, batch, n] by thresholds [batch, n, K - 1]."""
    batch, n, steps = thresholds.shape
    z = thresholds.new_empty((n_samples, batch, n), dtype=torch.int64)
    tile = launch_config.ABC_SAMPLES
    tiles = triton.cdiv(n_samples, tile)
    if z.numel() > 0:
        with torch.cuda.device_of(thresholds):
            draw_kernel[(batch * tiles,)](
                thresholds, z, batch, n, n_samples, tiles, signed(seed), first_row, first_sample,
                STEPS=steps, TILE=tile, **rounded_twice(1),
            )  # fmt: skip
    return z


def weigh(
    thresholds: torch.Tensor,
    weights: torch.Tensor,
    work: torch.Tensor,
    constraints: torch.Tensor,
    incident: torch.Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts by score, int64 as the weights, and weights by value, int64 [batch, n, K].

    Every program has scratch for one tile of samples, whatever their number.
    """
    batch, n, steps = thresholds.shape
    counts = torch.zeros_like(weights)
    sums = thresholds.new_zeros((batch, n, steps + 1), dtype=torch.int64)
    samples = Samples(thresholds, constraints, incident, seed, first_row)
    launch_weigh(samples, weights, work, (counts, sums), n_samples, first_sample)
    histogram = sums.clone()
    histogram[..., :-1] -= sums[..., 1:]
    return counts.long(), histogram


class Samples(NamedTuple):
    """What draws and scores the samples of all rows."""

    thresholds: torch.Tensor
    constraints: torch.Tensor
    incident: torch.Tensor
    seed: int
    first_row: int


def launch_weigh(
    samples: Samples,
    weights: torch.Tensor,
    work: torch.Tensor,
    results: tuple[torch.Tensor, torch.Tensor],
    n_samples: int,
    first_sample: int = 0,
) -> None:
    """Add to counts by score and to the sums of weights of values of at least v."""
    thresholds, constraints, incident, seed, first_row = samples
    batch, n, steps = thresholds.shape
    local = incident.shape[1] > 0
    config = launch_config.abc_sampling(batch, n, len(constraints), n_samples, local)
    scratch = thresholds.new_empty(config.programs * config.scratch, dtype=torch.int32)
    if batch > 0 and n_samples > 0:
        with torch.cuda.device_of(thresholds):
            weigh_kernel[(config.programs,)](
                thresholds, weights, work, constraints, incident if local else constraints, *results, scratch,
                batch, n, len(constraints), weights.shape[2], n_samples, config.splits, config.scratch,
                signed(seed), first_row, first_sample,
                STEPS=steps, SIZE=constraints.shape[1], DEGREE=incident.shape[1], LANES=config.lanes,
                WIDTH=launch_config.next_power_of_two(steps + 1), **rounded_twice(1),
            )  # fmt: skip
