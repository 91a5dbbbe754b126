"""Independent beliefs about symbols: log probabilities of values and assignments, without cancellation."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.engines import A_PROBLEM
from emnesy_gpu.problems import Problem

LOG_ZERO = -1e30
"""Stands for log 0, so that autograd never meets inf - inf."""


def check_row_loss(problem: Problem, logits: Tensor, label: Tensor) -> None:
    """Raise TypeError or ValueError for what is no problem, and for tensors that are not for it."""
    checks.is_instance("problem", problem, Problem, A_PROBLEM)
    problem.checked(logits, label)


def log_beliefs(logits: Tensor) -> Tensor:
    """log p(v) [..., K] of logits [..., K], at least ``LOG_ZERO``."""
    return logits.log_softmax(-1).clamp(min=LOG_ZERO)


def draw_beliefs(log_p: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """Assignments int64 [samples, batch, *latent_shape] from independent beliefs."""
    p = log_p.detach().exp().flatten(0, -2)
    return p.multinomial(samples, replacement=True, generator=generator).T.view(samples, *log_p.shape[:-1])


def log_p_of(log_p: Tensor, z: Tensor) -> Tensor:
    """log p_i(z_i) of log_p [batch, *latent_shape, K] and z [samples, batch, *latent_shape]: like z."""
    return log_p.expand(*z.shape, -1).gather(-1, z[..., None]).squeeze(-1)


def log_joint_of(log_p: Tensor, z: Tensor) -> Tensor:
    """sum_i log p_i(z_i) [samples, batch] of log_p [batch, *latent_shape, K] and z [samples, batch, *latent_shape]."""
    return log_p_of(log_p, z).flatten(2).sum(2)


def right_entries(problem: Problem, z: Tensor, label: Tensor) -> Tensor:
    """Which entries of its label z [samples, batch, *latent_shape] has: bool [samples, batch, entries]."""
    return (problem.label(z) == label).view(*z.shape[:2], -1)


def has_label(problem: Problem, z: Tensor, label: Tensor) -> Tensor:
    """Whether z [samples, batch, *latent_shape] has the label: bool [samples, batch]."""
    return right_entries(problem, z, label).all(2)


def log_complements(log_p: Tensor) -> Tensor:
    """log (1 - p(v)) [..., K] as the sum over the other values, at least ``LOG_ZERO``."""
    return _others(log_p, LOG_ZERO).logsumexp(-1).clamp(min=LOG_ZERO)


def log_bits(log_p: Tensor) -> Tensor:
    """log of p(v) prod_{u != v} (1 - p(u)) [..., K]: of K independent bits only that of v is on."""
    return (log_p + _others(log_complements(log_p), 0.0).sum(-1)).clamp(min=LOG_ZERO)


def _others(values: Tensor, own: float) -> Tensor:
    """The values [..., K, K] of all others for each, and ``own`` on the diagonal."""
    itself = torch.eye(values.shape[-1], dtype=torch.bool, device=values.device)
    return values.unsqueeze(-2).masked_fill(itself, own)


def log_not(log_p: Tensor) -> Tensor:
    """log (1 - p) of log probabilities, with p at most 1 - eps so that it is finite."""
    return torch.log(-torch.expm1(log_p.clamp(max=-torch.finfo(log_p.dtype).eps)))
