"""BP-std for addition: differentiable belief propagation, with autograd through every message.

It is the forward recursion in log space, in the dtype of the logits, as one writes it in PyTorch without a posterior
engine; ``backward`` goes through all of its steps. The form for two addends gathers the pairs of digits that add up to
the label as [n, carry-in, base, batch] and runs the chain with ``logaddexp``. Every operation is vectorised over the
batch. It was faster than the other forms that were compared (batch first, log-depth tree).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from emnesy_gpu.baselines.beliefs import LOG_ZERO
from emnesy_gpu.reference import carry_chain

if TYPE_CHECKING:
    from emnesy_gpu.problems import Addition


def log_evidence(problem: Addition, logits: Tensor, label: Tensor) -> Tensor:
    """log p(y | x) [batch], differentiable; -inf, and a gradient without meaning, for an impossible label."""
    digits, top_carry = carry_chain.split_label(label, problem.n_digits, problem.base)
    if problem.n_addends == 2:
        return _pair_log_evidence(logits, digits, top_carry)
    return _general_log_evidence(logits, digits, top_carry)


def _pair_log_evidence(logits: Tensor, digits: Tensor, top_carry: Tensor) -> Tensor:
    """The log evidence [batch] for two addends."""
    log_prior = torch.log_softmax(logits.permute(1, 2, 3, 0).contiguous(), 2)
    first, second = log_prior
    value = torch.arange(logits.shape[-1], device=logits.device)
    carry_in = torch.arange(2, device=logits.device)
    rest = digits.T[:, None, None] - carry_in[:, None, None] - value[:, None]
    carries = rest < 0
    partner = second[:, None].expand(-1, 2, -1, -1).gather(2, rest % logits.shape[-1])
    pairs = first[:, None] + partner
    stay = pairs.masked_fill(carries, LOG_ZERO).logsumexp(2)
    carry = pairs.masked_fill(~carries, LOG_ZERO).logsumexp(2)
    transfer = torch.stack([stay, carry], 2)
    alpha = transfer[-1, 0]
    for step in transfer[:-1].flip(0):
        alpha = torch.logaddexp(alpha[0] + step[0], alpha[1] + step[1])
    return _final(alpha, top_carry)


def _general_log_evidence(logits: Tensor, digits: Tensor, top_carry: Tensor) -> Tensor:
    """The log evidence [batch] for any number of addends."""
    transfer = carry_chain.transfer_matrices(torch.log_softmax(logits, -1), digits).permute(1, 2, 3, 0)
    transfer = transfer.masked_fill(transfer == float("-inf"), LOG_ZERO)
    alpha = transfer[-1, 0]
    for step in transfer[:-1].flip(0):
        alpha = torch.logsumexp(alpha[:, None] + step, 0)
    return _final(alpha, top_carry)


def _final(alpha: Tensor, top_carry: Tensor) -> Tensor:
    """The entry of alpha [carry, batch] at the carry of the label, -inf where it stands for log 0."""
    inside = top_carry < len(alpha)
    picked = alpha.gather(0, top_carry.clamp(max=len(alpha) - 1)[None])[0]
    return torch.where(inside & (picked > 0.5 * LOG_ZERO), picked, float("-inf"))
