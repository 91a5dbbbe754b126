"""BP-std, the baseline: differentiable belief propagation, with autograd through every message.

What one writes in PyTorch without a posterior engine: the forward recursion in log space, vectorised over batch,
positions and digits, in the dtype of the logits; ``backward`` then walks through all of it. The two-addend form
gathers the base^2 pairs that matter as [batch, n, 2, base] and runs the chain with ``logaddexp`` on contiguous
rows over the batch, the fastest of the forms that were compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from emnesy_gpu.reduction import reduce
from emnesy_gpu.reference import carry_chain

if TYPE_CHECKING:
    from emnesy_gpu.problems import Addition

LOG_ZERO = -1e30
"""Stands for log 0 in the messages: finite, so that autograd never meets inf - inf."""


def bp_std_loss(problem: Addition, logits: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
    """-log p(y | x) by the log-space forward recursion, differentiable by autograd.

    logits [batch, n_addends, n_digits, base], label [batch, n_label_digits] int64. O(n_digits) sequential steps, and
    memory for every message. An impossible label gives +inf and a gradient without meaning. ``reduction`` is "mean",
    "sum" or "none".
    """
    log_prior = torch.log_softmax(logits, -1)
    digits, top_carry = carry_chain.split_label(label, problem.n_digits, problem.base)
    if problem.n_addends == 2:
        loss = -_pair_log_evidence(log_prior, digits, top_carry)
    else:
        loss = -_general_log_evidence(log_prior, digits, top_carry)
    return reduce(loss, reduction)


def _pair_log_evidence(log_prior: Tensor, digits: Tensor, top_carry: Tensor) -> Tensor:
    base = log_prior.shape[-1]
    first, second = log_prior[:, 0], log_prior[:, 1]
    value = torch.arange(base, device=log_prior.device)
    carry_in = torch.arange(2, device=log_prior.device)
    rest = digits[..., None, None] - carry_in[:, None] - value
    carries = rest < 0
    pairs = first[:, :, None, :] + second[:, :, None, :].expand(-1, -1, 2, -1).gather(-1, rest % base)
    stay = pairs.masked_fill(carries, LOG_ZERO).logsumexp(-1)
    carry = pairs.masked_fill(~carries, LOG_ZERO).logsumexp(-1)
    transfer = torch.stack([stay, carry], -1).permute(1, 2, 3, 0).contiguous()
    alpha = transfer[-1, 0]
    for step in transfer[:-1].flip(0):
        alpha = torch.logaddexp(alpha[0] + step[0], alpha[1] + step[1])
    return _final(alpha, top_carry)


def _general_log_evidence(log_prior: Tensor, digits: Tensor, top_carry: Tensor) -> Tensor:
    transfer = carry_chain.transfer_matrices(log_prior, digits).permute(1, 2, 3, 0)
    transfer = transfer.masked_fill(transfer == float("-inf"), LOG_ZERO)
    alpha = transfer[-1, 0]
    for step in transfer[:-1].flip(0):
        alpha = torch.logsumexp(alpha[:, None] + step, 0)
    return _final(alpha, top_carry)


def _final(alpha: Tensor, top_carry: Tensor) -> Tensor:
    inside = top_carry < len(alpha)
    picked = alpha.gather(0, top_carry.clamp(max=len(alpha) - 1)[None])[0]
    return torch.where(inside & (picked > 0.5 * LOG_ZERO), picked, float("-inf"))
