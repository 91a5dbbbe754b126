"""Distances on maps by max-pooling, in batched torch operations, as one writes them without kernels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

CHECK_EVERY = 4
"""Rounds between two checks for convergence, each of which synchronises a GPU."""


def distances(costs: Tensor) -> Tensor:
    """Cost of the cheapest path from the first cell to each cell, float [batch, H, W], by Bellman-Ford with pooling."""
    d = torch.full_like(costs, float("inf"))
    d[:, 0, 0] = costs[:, 0, 0]
    rounds = 0
    while True:
        before, rounds = d, rounds + 1
        d = torch.minimum(d, costs - max_pool2d(-d[:, None], 3, 1, 1)[:, 0])
        if rounds % CHECK_EVERY == 0 and torch.equal(before, d):
            return d


def weighted_marginals(logits: Tensor, label: Tensor, costs: Tensor, n_samples: int, tau: float) -> Tensor:
    """Marginals [batch, H, W, K] by samples with weight exp(-(cost of the label - cost of the cheapest path) / tau).

    costs: float [K], the cost of each class. The score needs no path, which would take a loop over its cells.
    """
    batch, height, width, k = logits.shape
    prior = torch.softmax(logits, -1).view(-1, k)
    z = torch.multinomial(prior, n_samples, replacement=True).view(batch, height * width, n_samples)
    maps = costs[z].movedim(2, 1)
    best = distances(maps.reshape(-1, height, width))[:, -1, -1].view(batch, n_samples)
    own = (maps * label.flatten(1)[:, None]).sum(-1)
    weights = torch.softmax((best - own) / tau, 1)
    histogram = torch.zeros(batch, height * width, k, dtype=logits.dtype, device=logits.device)
    histogram.scatter_add_(2, z, weights[:, None].expand_as(z))
    return histogram.view(logits.shape)
