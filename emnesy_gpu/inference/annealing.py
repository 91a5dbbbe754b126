"""Annealing of Gibbs chains: the factors of a growing penalty, and the evidence that follows from them."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, float32, float64

from emnesy_gpu.inference.results import result_dtype

LARGEST_LOG_RATIO = 40.0
"""Log ratio at which priors and factors of penalties are cut off, so that no product of the two underflows."""


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


def relative_prior(symbols: Tensor) -> Tensor:
    """The prior of each symbol divided by its largest entry, float32; hard zeros and entries below exp(-40) are 0."""
    doubled = symbols.double()
    relative = (doubled - doubled.amax(-1, keepdim=True)).nan_to_num(nan=0.0, neginf=-math.inf)
    return torch.where(relative < -LARGEST_LOG_RATIO, 0.0, relative.exp()).to(float32).contiguous()


def mean_conditionals(sums: Tensor, logits: Tensor) -> Tensor:
    """Marginals [batch, N, K] from conditionals that are summed over sweeps and chains, float32 or integers.

    Sums of float32 are divided in the dtype of the result, sums of integers in float64.
    """
    dtype = result_dtype(logits)
    sums = sums.to(dtype) if sums.is_floating_point() else sums.double()
    return (sums / sums.sum(-1, keepdim=True)).to(dtype)


def annealed_evidence(conflicts: Tensor, penalty: float, sweeps: int) -> Tensor:
    """Log evidence by annealed importance sampling, float64 [batch].

    conflicts: int64 [batch, chains], summed over the annealing. When the penalty grows after sweep s, the log weight of
    a chain changes by -penalty / annealing times its conflicts at that moment.
    """
    step = penalty / annealing_sweeps(sweeps)
    return torch.logsumexp(conflicts.double() * -step, 1) - math.log(conflicts.shape[1])
