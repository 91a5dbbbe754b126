"""The posterior given the label of each row, from the posterior given that all constraints hold (label 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


def surely_valid(label: Tensor) -> bool:
    """Whether no row has label 0; False where the answer would synchronise a GPU."""
    return label.device.type == "cpu" and int(label.count_nonzero()) == label.shape[0]


def given_label(
    logits: Tensor, label: Tensor, valid: Tensor, log_valid: Tensor, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log evidence and status given the label, from those given that the row is valid.

    With Z = p(valid) and q = p(z_i = v | valid), a row with label 0 has p(z_i = v | invalid) =
    (p(z_i = v) - Z q) / (1 - Z) and evidence 1 - Z. The largest entry of a symbol, where cancellation is worst, is
    computed as 1 - Z less the other entries. If all entries are 0, no invalid assignment has positive probability.
    """
    if surely_valid(label):
        return valid, log_valid, status
    invalid = (label == 0) & (status <= IMPOSSIBLE)
    prior = torch.softmax(logits.to(valid.dtype), -1)
    log_z = log_valid.masked_fill(status == IMPOSSIBLE, float("-inf")).clamp(max=0.0)
    z, rest = log_z.exp(), -torch.expm1(log_z)
    remaining = (prior - z[:, None, None] * valid).clamp_min(0.0)
    largest = prior.argmax(-1, keepdim=True)
    others = remaining.scatter(-1, largest, 0.0).sum(-1, keepdim=True)
    remaining = remaining.scatter(-1, largest, (rest[:, None, None] - others).clamp_min(0.0))
    total = remaining.sum(-1, keepdim=True)
    possible = (rest > 0) & (total > 0).flatten(1).all(1)
    marginals = torch.where(possible[:, None, None], remaining / total, prior)
    log_evidence = torch.where(possible, rest.log(), float("-inf"))
    new_status = torch.where(possible, POSSIBLE, IMPOSSIBLE).to(status.dtype)
    return (
        torch.where(invalid[:, None, None], marginals, valid),
        torch.where(invalid, log_evidence, log_valid),
        torch.where(invalid, new_status, status),
    )


def map_given_label(
    logits: Tensor, label: Tensor, pairs: Tensor, z: Tensor, log_joint: Tensor, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Most probable assignment, log joint and status given the label, from those given that the row is valid.

    The most probable invalid assignment has one pair of equal values (pairs [2, P]: variables that must differ), and
    the most probable value at every other symbol. The pair and value that lose the least log probability are taken, the
    first on ties.
    """
    if surely_valid(label):
        return z, log_joint, status
    invalid = (label == 0) & (status <= IMPOSSIBLE)
    log_prior = torch.log_softmax(logits.double(), -1)
    best, choice = log_prior.max(-1)
    loss = best[..., None] - log_prior
    given_up, which = (loss[:, pairs[0]] + loss[:, pairs[1]]).flatten(1).min(1)
    members, value = pairs[:, which // logits.shape[-1]].T, which % logits.shape[-1]
    other_z = choice.scatter(1, members, value[:, None].expand(-1, 2))
    possible = given_up < float("inf")
    other_z = torch.where(possible[:, None], other_z, choice)
    other_joint = torch.where(possible, best.sum(1) - given_up, float("-inf")).to(log_joint.dtype)
    other_status = torch.where(possible, POSSIBLE, IMPOSSIBLE).to(status.dtype)
    return (
        torch.where(invalid[:, None], other_z, z),
        torch.where(invalid, other_joint, log_joint),
        torch.where(invalid, other_status, status),
    )
