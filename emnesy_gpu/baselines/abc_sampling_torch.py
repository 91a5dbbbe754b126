"""Weighted samples of boards in batched torch without fused kernels, in a plain form and in a lean one.

Samples are held in memory, [batch, N, n_samples]. A sample that satisfies s groups has the weight table[s].
"""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot_marginals(logits: Tensor, groups: Tensor, table: Tensor, n_samples: int) -> Tensor:
    """Marginals [batch, N, K] with values as one-hot vectors; logits [batch, N, K].

    A group is satisfied where no value is counted twice.
    """
    batch, n, cardinality = logits.shape
    prior = torch.softmax(logits, -1).flatten(0, 1)
    z = torch.multinomial(prior, n_samples, replacement=True).view(batch, n, n_samples)
    chosen = torch.nn.functional.one_hot(z, cardinality)
    counted = chosen[:, groups.flatten()].view(batch, *groups.shape, n_samples, cardinality).sum(2)
    weight = table[(counted <= 1).all(-1).sum(1)]
    histogram = (chosen * weight[:, None, :, None]).sum(2)
    return histogram / histogram.sum(-1, keepdim=True)


def bit_mask_marginals(logits: Tensor, groups: Tensor, table: Tensor, n_samples: int) -> Tensor:
    """Marginals [batch, N, K] with values as bits of an integer; a group of K members is satisfied by all K bits."""
    batch, n, cardinality = logits.shape
    thresholds = torch.softmax(logits, -1).cumsum(-1)[..., None, :-1]
    z = (torch.rand(batch, n, n_samples, 1, device=logits.device) >= thresholds).sum(-1)
    bits = torch.bitwise_left_shift(torch.ones((), dtype=torch.int32, device=z.device), z.int())[:, groups]
    seen = bits[:, :, 0]
    for member in range(1, groups.shape[1]):
        seen = seen | bits[:, :, member]
    weight = table[(seen == (1 << cardinality) - 1).sum(1)]
    histogram = logits.new_zeros(batch, n, cardinality)
    histogram.scatter_add_(2, z, weight[:, None].expand(z.shape))
    return histogram / histogram.sum(-1, keepdim=True)
