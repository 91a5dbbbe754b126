"""Unfused EM for addition in plain torch: the posterior by forward and backward messages, without autograd.

It is a baseline for speed and memory, for two addends: rescaled probabilities in the dtype of the logits, one torch
call per step of the chain, every intermediate a tensor. Very confident wrong logits underflow here; in the kernels and
the reference they do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from emnesy_gpu.reference.carry_chain import split_label

if TYPE_CHECKING:
    from emnesy_gpu.problems import Addition


@torch.no_grad()
def bp_em_posterior(problem: Addition, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Marginals, of the shape of the logits, and log evidence [batch] for two addends."""
    base, n = problem.base, problem.n_digits
    prior = torch.softmax(logits, -1)
    digits, top_carry = split_label(label, n, base)
    carry_in = torch.arange(2, device=logits.device)
    rest = digits[..., None, None] - carry_in[:, None] - torch.arange(base, device=logits.device)
    partner = rest % base
    pairs = prior[:, 0, :, None, :] * prior[:, 1, :, None, :].expand(-1, -1, 2, -1).gather(-1, partner)
    carries = (pairs * (rest < 0)).sum(-1)
    transfer = torch.stack([pairs.sum(-1) - carries, carries], -1).permute(1, 2, 3, 0).contiguous()
    alpha, scale = _forward(transfer)
    beta = _backward(transfer, top_carry)
    states = torch.arange(2, device=logits.device)
    final = torch.where(top_carry[:, None] == states, alpha[n].T, 0.0).sum(1)
    message = torch.where(rest < 0, beta[:n, 1].T[..., None, None], beta[:n, 0].T[..., None, None])
    joint = pairs * alpha[:n].permute(2, 0, 1).flip(1)[..., None] * message
    joint = joint / joint.sum((-1, -2), keepdim=True)
    marginals = torch.stack([joint.sum(2), joint.gather(-1, partner).sum(2)], 1)
    return marginals, scale.log().sum(0) + final.log()


def _forward(transfer: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised alpha [n + 1, 2, batch], the least significant carry first, and its scales [n, batch]."""
    n, _, _, batch = transfer.shape
    alpha = transfer.new_empty(n + 1, 2, batch)
    scale = transfer.new_empty(n, batch)
    alpha[0, 0], alpha[0, 1] = 1.0, 0.0
    for step, matrix in enumerate(transfer.flip(0)):
        message = (alpha[step, :, None] * matrix).sum(0)
        scale[step] = message.sum(0)
        torch.div(message, scale[step], out=alpha[step + 1])
    return alpha, scale


def _backward(transfer: Tensor, top_carry: Tensor) -> Tensor:
    """Normalised beta [n + 1, 2, batch] over the carry out of each position, the most significant first."""
    n, _, _, batch = transfer.shape
    beta = transfer.new_empty(n + 1, 2, batch)
    beta[0, 0], beta[0, 1] = top_carry == 0, top_carry == 1
    for i in range(n):
        message = (transfer[i] * beta[i]).sum(1)
        torch.div(message, message.sum(0), out=beta[i + 1])
    return beta
