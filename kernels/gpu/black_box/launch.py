"""Launches the count of samples by a score of the user, a Triton function compiled into the kernel that draws them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.black_box.kernels import histogram_kernel
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.scalars import signed


def histogram(
    thresholds: torch.Tensor,
    label: torch.Tensor,
    score: Callable,
    n_constraints: int,
    n_samples: int,
    seed: int,
    first_row: int,
) -> torch.Tensor:
    """int64 [batch, n_constraints + 1, N, K]: see emnesy_gpu.reference.black_box."""
    batch, n, steps = thresholds.shape
    result = thresholds.new_zeros((batch, n_constraints + 1, n, steps + 1), dtype=torch.int64)
    tiles = triton.cdiv(n_samples, launch_config.BLACK_BOX_SAMPLES)
    if batch * tiles > 0:
        with torch.cuda.device_of(thresholds):
            histogram_kernel[(batch * tiles,)](
                thresholds, label, result, n_constraints, n_samples, tiles, signed(seed), first_row,
                SCORE=score, N=n, ENTRIES=label.shape[1], STEPS=steps, TILE=launch_config.BLACK_BOX_SAMPLES, 
                **rounded_twice(launch_config.BLACK_BOX_WARPS),
            )  # fmt: skip
    return result
