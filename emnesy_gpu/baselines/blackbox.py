"""Blackbox backpropagation: an informative gradient for a loss on cheapest paths."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.baselines.path_loss import differing_cells
from emnesy_gpu.problems import ShortestPath


def blackbox_loss(
    problem: ShortestPath, costs: Tensor, label: Tensor, reduction: str = "mean", interpolation: float = 20.0
) -> Tensor:
    """Cells that differ between the label and the cheapest path of predicted costs, with an informative gradient.

    Blackbox backpropagation (Vlastelica et al., ICLR 2020) for the Hamming loss: with path(c) the mask of the cheapest
    path, the gradient in the costs c is (path(c + interpolation * (1 - 2 label)) - path(c)) / interpolation.

    Args:
        problem: gives the size of the maps; its costs play no part.
        costs: float [batch, height, width], positive (say a softplus of a net's outputs); differentiable.
        label: as for ``em.posterior``, with or without marked ends.
        reduction: "mean", "sum" or "none" over the batch.
        interpolation: how far the costs are moved, in units of the costs, above 0.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.ShortestPath(3)
    >>> costs = torch.tensor([[[1.0, 1, 1], [1, 9, 1], [1, 1, 1]]], requires_grad=True)
    >>> loss = em.blackbox_loss(problem, costs, torch.eye(3, dtype=torch.uint8)[None])
    >>> loss.backward()
    >>> loss.item(), bool(costs.grad[0, 1, 1] > 0), bool(costs.grad[0, 0, 1] < 0)     # lower the one, raise the other
    (3.0, True, True)
    """
    return differing_cells(problem, costs, label, reduction, torch.zeros(1, *costs.shape), interpolation)
