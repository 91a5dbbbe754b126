"""The posterior given the label of each row, from the posterior given that all constraints hold (label 1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.inference.results import per_row
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE

CERTAIN = 1e-8
"""Expected number of mistakes below which those of more than two symbols are left out: they weigh as much less."""


def surely_valid(label: Tensor) -> bool:
    """Whether no row has label 0; False where the answer would synchronise a GPU."""
    return label.device.type == "cpu" and int(label.count_nonzero()) == label.shape[0]


def given_label(
    logits: Tensor, label: Tensor, pairs: Tensor, valid: Tensor, log_valid: Tensor, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log evidence and status given the label, from those given that the row is valid."""
    if surely_valid(label):
        return valid, log_valid, status
    invalid = given_invalid(logits.double(), pairs, valid.double(), log_valid.double(), status)
    marginals, log_evidence, new_status = (
        torch.where(per_row(label == 0, old), new.to(old.dtype), old)
        for old, new in zip((valid, log_valid, status), invalid, strict=True)
    )
    return marginals, log_evidence, new_status


def given_invalid(
    logits: Tensor, pairs: Tensor, valid: Tensor, log_valid: Tensor, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log evidence and status given that the row is not valid, from those given that it is.

    With Z = p(valid) and q = p(z_i = v | valid), p(z_i = v | invalid) = (p(z_i = v) - Z q) / (1 - Z), and the evidence
    is 1 - Z. The largest entry of a symbol, where cancellation is worst, is computed as 1 - Z less the other entries.
    If all entries are 0, no invalid assignment has positive probability. Where a valid assignment is nearly certain,
    all digits of 1 - Z cancel: there see ``mistakes``. float64 logits [batch, N, K]; pairs [2, P] must differ.
    """
    log_prior = torch.log_softmax(logits, -1)
    prior = log_prior.exp()
    log_z = log_valid.masked_fill(status == IMPOSSIBLE, float("-inf")).clamp(max=0.0)
    z, rest = log_z.exp(), -torch.expm1(log_z)
    remaining = (prior - z[:, None, None] * valid).clamp_min(0.0)
    largest = prior.argmax(-1, keepdim=True)
    others = remaining.scatter(-1, largest, 0.0).sum(-1, keepdim=True)
    remaining = remaining.scatter(-1, largest, (rest[:, None, None] - others).clamp_min(0.0))
    total = remaining.sum(-1, keepdim=True)
    possible = (rest > 0) & (total > 0).flatten(1).all(1)
    few = mistakes(log_prior, pairs)
    possible = torch.where(few.certain, few.log_evidence > float("-inf"), possible)
    marginals = torch.where(few.certain[:, None, None], few.marginals, remaining / total)
    log_evidence = torch.where(few.certain, few.log_evidence, rest.log())
    new_status = torch.where(possible, POSSIBLE, IMPOSSIBLE).to(status.dtype)
    return (
        torch.where(possible[:, None, None], marginals, prior),
        torch.where(possible, log_evidence, float("-inf")),
        torch.where(status <= IMPOSSIBLE, new_status, status),
    )


class Mistakes(NamedTuple):
    """The invalid assignments that differ from a valid one in one or two symbols.

    certain [batch]: whether all others weigh less than CERTAIN of them. marginals [batch, N, K], log_evidence [batch].
    """

    certain: Tensor
    marginals: Tensor
    log_evidence: Tensor


def mistakes(log_prior: Tensor, pairs: Tensor) -> Mistakes:
    """What makes the most probable assignment invalid, if it is valid: one symbol with the value of a neighbour, or two
    neighbours with the same new value. Both in logarithms, so that no probability is too small.
    """
    mode = log_prior.argmax(-1)
    usual = torch.nn.functional.one_hot(mode, log_prior.shape[-1])
    conflicts = torch.zeros_like(usual)
    conflicts.index_add_(1, pairs[0], usual[:, pairs[1]]).index_add_(1, pairs[1], usual[:, pairs[0]])
    unusual = log_prior.masked_fill(usual > 0, float("-inf"))
    singles = unusual.masked_fill(conflicts == 0, float("-inf"))
    free = unusual.masked_fill(conflicts > 0, float("-inf"))
    doubles = free[:, pairs[0]] + free[:, pairs[1]]
    total = torch.logsumexp(torch.cat([singles.flatten(1), doubles.flatten(1)], 1), 1)
    shift = total.masked_fill(total == float("-inf"), 0.0)[:, None, None]
    off, both = (singles - shift).exp(), (doubles - shift).exp()
    off.index_add_(1, pairs[0], both).index_add_(1, pairs[1], both)
    marginals = off + usual * (1.0 - off.sum(-1, keepdim=True))
    is_valid = (conflicts * usual).flatten(1).sum(1) == 0
    certain = is_valid & (torch.logsumexp(unusual.flatten(1), 1) < math.log(CERTAIN))
    return Mistakes(certain, marginals, total)


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
