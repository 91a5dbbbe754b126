"""The posterior of hard EM: one value of each symbol, written to be read."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.reference.symbols import result_dtype


def map_marginals(logits: Tensor, assignment: Tensor, possible: Tensor) -> Tensor:
    """1 at the value of each symbol and 0 elsewhere; softmax(logits) in rows that are not possible. [batch, n, K].

    logits: [batch, n, K]. assignment: int64 [batch, n]. possible: bool [batch].
    """
    one_hot = assignment[..., None] == torch.arange(logits.shape[-1], device=logits.device)
    prior = torch.softmax(logits.to(result_dtype(logits)), -1)
    return torch.where(possible[:, None, None], one_hot.to(prior.dtype), prior)
