"""The posterior given the label of each row, from the posterior given that all constraints hold (label 1).

Label 0 says that two neighbours, symbols that must differ, have the same value. logits [batch, N, K]; label [batch], 1
or 0; neighbours int32 [N, D], those of each symbol, padded with -1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.reference.symbols import result_dtype

CERTAIN = 1e-8
"""Expected number of mistakes below which those of more than two symbols are left out: they weigh as much less."""


def pairs_of(neighbours: Tensor) -> Tensor:
    """Symbols that must differ, each pair once, int64 [2, P] in lexicographic order."""
    symbols = torch.arange(len(neighbours), device=neighbours.device)[:, None]
    first, slot = (neighbours > symbols).nonzero(as_tuple=True)
    return torch.stack([first, neighbours[first, slot].long()])


def given_label(
    logits: Tensor, label: Tensor, neighbours: Tensor, results: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log evidence and status given the label, from those given that the row is valid."""
    valid, log_valid, status = results
    invalid = given_invalid(logits.double(), neighbours, valid.double(), log_valid.double(), status)
    marginals, log_evidence, new_status = (
        torch.where((label == 0).view(-1, *[1] * (old.dim() - 1)), new.to(old.dtype), old)
        for old, new in zip(results, invalid, strict=True)
    )
    return marginals, log_evidence, new_status


def given_invalid(
    logits: Tensor, neighbours: Tensor, valid: Tensor, log_valid: Tensor, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log evidence and status given that the row is not valid, from those given that it is.

    With Z = p(valid) and q = p(z_i = v | valid), p(z_i = v | invalid) = (p(z_i = v) - Z q) / (1 - Z), and the evidence
    is 1 - Z. The largest entry of a symbol, where cancellation is worst, is computed as 1 - Z less the other entries.
    If all entries are 0, no invalid assignment has positive probability. Where a valid assignment is nearly certain,
    all digits of 1 - Z cancel: there see ``mistakes``. All are float64.
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
    few = mistakes(log_prior, pairs_of(neighbours))
    possible = torch.where(few.certain, few.log_evidence > float("-inf"), possible)
    marginals = torch.where(few.certain[:, None, None], few.marginals, remaining / total)
    log_evidence = torch.where(few.certain, few.log_evidence, torch.where(z < 0.5, torch.log1p(-z), rest.log()))
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
    logits: Tensor, label: Tensor, pairs: Tensor, z: Tensor, status: Tensor, given: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Assignment, log joint, status and whether the assignment has the label, from z and status given label 1.

    given: the log joint given label 1, which is computed if it is None.

    The most probable invalid assignment has one pair of equal values (pairs int64 [2, P]: symbols that must differ),
    and the most probable value at every other symbol. The pair and value that lose the least log probability are taken,
    the first on ties.
    """
    invalid = (label == 0) & (status <= IMPOSSIBLE)
    wide = logits.double()
    high, choice = wide.max(-1, keepdim=True)
    loss = high - wide
    given_up, which = (loss[:, pairs[0]] + loss[:, pairs[1]]).flatten(1).min(1)
    members, value = pairs[:, which // logits.shape[-1]].T, which % logits.shape[-1]
    possible = given_up < float("inf")
    changed = choice[..., 0].scatter(1, members, value[:, None].expand(-1, 2))
    z = torch.where(invalid[:, None], torch.where(possible[:, None], changed, choice[..., 0]), z)
    status = torch.where(invalid, torch.where(possible, POSSIBLE, IMPOSSIBLE).to(status.dtype), status)
    log_joint = torch.log_softmax(wide, -1).gather(-1, z[..., None]).flatten(1).sum(1)
    log_joint = log_joint.masked_fill(status != POSSIBLE, float("-inf")).to(result_dtype(logits))
    log_joint = log_joint if given is None else torch.where(invalid, log_joint, given)
    holds = (z[:, pairs[0]] != z[:, pairs[1]]).all(1)
    return z, log_joint, status, (holds == label) & (status == POSSIBLE)
