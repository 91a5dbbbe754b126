"""Annealed Gibbs chains on all-different groups: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, float32, float64

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.given_label import POSSIBLE, given_label, raise_for_status
from emnesy_gpu.ops.registry import register, result_dtype, row_results

LARGEST_EXPONENT = 40.0
"""Priors and penalties below exp(-40) of the largest are cut off, so that no product of the two underflows."""

Chains = tuple[Tensor, Tensor, Tensor, Tensor]


@functools.lru_cache(maxsize=64)
def annealed_factors(sweeps: int, annealing: int, penalty: float, most_conflicts: int) -> Tensor:
    """float32 [sweeps + 1, most_conflicts + 1]: exp(-penalty * conflicts), the penalty growing over the annealing.

    The factor of n conflicts is the product, rounded in ascending order, of those of the powers of two that n is a sum
    of, and at least exp(-40). Shared by all calls: not to be written to.
    """
    ramp = (torch.arange(sweeps + 1, dtype=float64) / annealing).clamp(max=1.0) * penalty
    conflicts = torch.arange(most_conflicts + 1)
    factors = torch.ones(sweeps + 1, most_conflicts + 1)
    for bit in range(most_conflicts.bit_length()):
        power = (-ramp * 2**bit).clamp(min=-LARGEST_EXPONENT).exp().to(float32)
        factors = torch.where((conflicts >> bit) % 2 == 1, factors * power[:, None], factors)
    return factors.clamp_min(math.exp(-LARGEST_EXPONENT))


def relative_prior(symbols: Tensor) -> Tensor:
    """float32 prior of each symbol divided by its largest entry; hard zeros and entries below exp(-40) are 0."""
    doubled = symbols.double()
    relative = (doubled - doubled.amax(-1, keepdim=True)).nan_to_num(nan=0.0, neginf=-math.inf)
    return torch.where(relative < -LARGEST_EXPONENT, 0.0, relative.exp()).to(float32).contiguous()


def annealed_evidence(conflicts: Tensor, penalty: float, sweeps: int) -> Tensor:
    """Log evidence by annealed importance sampling, float64 [batch].

    conflicts: int64 [batch, chains], summed over annealing.
    From temperature s to s + 1 the log weight of a chain changes by -penalty / annealing times the conflicts after
    sweep s.
    """
    step = penalty / max(sweeps // 2, 1)
    return torch.logsumexp(conflicts.double() * -step, 1) - math.log(conflicts.shape[1])


def _marginals(
    logits: Tensor,
    label: Tensor,
    memberships: Tensor,
    n_groups: int,
    most_conflicts: int,
    chains: int,
    sweeps: int,
    penalty: float,
    seed: int,
    first_row: int,
    check: bool,
) -> Chains:
    """Marginals, log evidence and status; the share of chains that end without a conflict [batch]."""
    symbols = logits.flatten(1, -2)
    status = checks.row_status(symbols, label, 2)
    if check:
        raise_for_status(status, logits, label)
    burn_in = sweeps // 2
    annealing = max(burn_in, 1)
    factors = annealed_factors(sweeps, annealing, penalty, most_conflicts).to(logits.device)
    kernels = kernels_for("gibbs", logits.device)
    valid, conflicts, final = kernels.run(
        relative_prior(symbols), factors, memberships, n_groups, chains, sweeps - burn_in, seed, first_row
    )
    dtype = result_dtype(logits)
    valid = valid.to(dtype)
    valid = valid / valid.sum(-1, keepdim=True)
    broken = status > POSSIBLE
    if broken.device.type != "cpu" or bool(broken.any()):
        valid = torch.where(broken[:, None, None], torch.softmax(symbols.to(dtype), -1), valid)
    log_valid = annealed_evidence(conflicts, penalty, sweeps)
    log_valid = torch.where(status == POSSIBLE, log_valid, -math.inf).to(dtype)
    marginals, log_evidence, status = given_label(symbols.to(dtype), label, valid, log_valid, status)
    return marginals.view(logits.shape), log_evidence, status, (final == 0).to(dtype).mean(1)


def _marginals_fake(logits: Tensor, *_others: object) -> Chains:
    marginals, log_evidence, status = row_results(logits)
    return marginals, log_evidence, status, torch.empty_like(log_evidence)


register(
    "gibbs_marginals(Tensor logits, Tensor label, Tensor memberships, int n_groups, int most_conflicts, int chains,"
    " int sweeps, float penalty, int seed, int first_row, bool check) -> (Tensor, Tensor, Tensor, Tensor)",
    _marginals,
    _marginals_fake,
)
