"""Annealing of Gibbs chains: the factors of a growing penalty."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, float32, float64

from emnesy_gpu.reference.gibbs import LARGEST_LOG_RATIO


def annealing_sweeps(sweeps: int) -> int:
    """The number of sweeps over which the penalty grows: the first half, and at least one."""
    return max(sweeps // 2, 1)


@functools.lru_cache(maxsize=64)
def annealed_factors(sweeps: int, annealing: int, penalty: float, most_conflicts: int, device: torch.device) -> Tensor:
    """The factors exp(-penalty * conflicts) of each sweep, float32 [sweeps + 1, most_conflicts + 1].

    The penalty grows linearly from 0 over the first ``annealing`` sweeps. The factor of n conflicts is the product of
    the factors of the powers of two in n, multiplied in ascending order, and at least exp(-40). They are computed on
    the CPU and copied to the device once: all calls get the same tensor, so do not write to it.
    """
    ramp = (torch.arange(sweeps + 1, dtype=float64, device="cpu") / annealing).clamp(max=1.0) * penalty
    conflicts = torch.arange(most_conflicts + 1, device="cpu")
    factors = torch.ones(sweeps + 1, most_conflicts + 1, dtype=float32, device="cpu")
    for bit in range(most_conflicts.bit_length()):
        power = (-ramp * 2**bit).clamp(min=-LARGEST_LOG_RATIO).exp().to(float32)
        factors = torch.where((conflicts >> bit) % 2 == 1, factors * power[:, None], factors)
    return factors.clamp_min(math.exp(-LARGEST_LOG_RATIO)).to(device)
