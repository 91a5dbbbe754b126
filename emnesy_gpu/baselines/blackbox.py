"""Blackbox backpropagation, an interpolated gradient for a loss on cheapest paths."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines.path_loss import Perturbation, check_maps, differing_cells
from emnesy_gpu.problems import ShortestPath


def blackbox_loss(
    problem: ShortestPath, costs: Tensor, label: Tensor, reduction: str = "mean", interpolation: float = 20.0
) -> Tensor:
    """Number of cells that differ between the label and the cheapest path, with an interpolated gradient.

    Blackbox backpropagation (Vlastelica et al., ICLR 2020) for the Hamming loss: with path(c) the mask of the cheapest
    path, the gradient in the costs c is (path(c + interpolation * (1 - 2 label)) - path(c)) / interpolation.

    Args:
        problem: an ``em.ShortestPath`` of the size of the maps; its costs are not used.
        costs: float [batch, height, width], predicted costs, positive (such as a softplus); differentiable.
        label: integers [batch, height, width] as for ``em.posterior``, with or without marked ends.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        interpolation: how far the costs are moved, in units of the costs, above 0. The published 20 multiplies the
            gradient of a mean over the batch: with 70 maps it is 20 / 70 here.

    Raises TypeError for another problem, ValueError for a wrong shape or an unknown reduction. Values of the label are
    not checked, and a label that is no path is allowed. Deterministic. Cost: two cheapest paths per row.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.ShortestPath(3)
    >>> costs = torch.tensor([[[1.0, 1, 1], [1, 9, 1], [1, 1, 1]]], requires_grad=True)
    >>> loss = em.blackbox_loss(problem, costs, torch.eye(3, dtype=torch.uint8)[None])
    >>> loss.backward()
    >>> loss.item(), bool(costs.grad[0, 1, 1] > 0), bool(costs.grad[0, 0, 1] < 0)     # lower the centre, raise the edge
    (3.0, True, True)
    """
    check_maps(problem, costs, label)
    checks.is_positive("interpolation", interpolation)
    none = torch.zeros(1, *costs.shape)
    return differing_cells(problem, costs, label, reduction, Perturbation(none, interpolation))
