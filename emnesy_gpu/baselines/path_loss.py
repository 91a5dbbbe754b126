"""The Hamming loss between the cheapest path of predicted costs and a label, with an interpolated gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emnesy_gpu import checks
from emnesy_gpu.problems import ShortestPath
from emnesy_gpu.problems.shortest_path import rounded_costs
from emnesy_gpu.reduction import reduce
from emnesy_gpu.reference.grid_paths import ON_PATH, ends


class Perturbation(NamedTuple):
    """How costs are moved.

    noise: float [draws, batch, height, width], added to the costs of both paths. interpolation: how far the costs are
    moved towards the label. target: costs [batch, height, width] in place of the moved ones.
    """

    noise: Tensor
    interpolation: float
    target: Tensor | None = None


def check_maps(problem: ShortestPath, costs: Tensor, label: Tensor) -> None:
    """Raise TypeError for another problem and for wrong dtypes, ValueError for wrong shapes."""
    checks.is_instance("problem", problem, ShortestPath, "an em.ShortestPath")
    for name, tensor, dtypes in (("costs", costs, checks.FLOAT_DTYPES), ("label", label, checks.INTEGER_DTYPES)):
        checks.is_tensor(name, tensor)
        checks.has_dtype(name, tensor, dtypes)
        checks.has_trailing_shape(name, tensor, problem.latent_shape)
    checks.belong_together(costs, label)


def ends_of_labels(problem: ShortestPath, label: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of the first and of the last cell of the path of each label: two int64 [batch, 2]."""
    first, last, _ = ends(label)
    start, goal = (torch.stack([cell // problem.width, cell % problem.width], -1) for cell in (first, last))
    return start, goal


def differing_cells(
    problem: ShortestPath, costs: Tensor, label: Tensor, reduction: str, perturbation: Perturbation
) -> Tensor:
    """Number of cells on exactly one of label and path, averaged over the draws of the noise on the costs.

    With path(c) the mask of the cheapest path, the gradient in the costs c is the mean over the draws e of
    (path(target + e) - path(c + e)) / interpolation, where the target is by default
    c + interpolation * (1 - 2 label). Raises ValueError for an unknown reduction.
    """
    return reduce(_PathLoss.apply(costs, label, perturbation), reduction)


class _PathLoss(torch.autograd.Function):
    """The loss of every row [batch], with the interpolated gradient in the costs."""

    @staticmethod
    def forward(ctx: Any, costs: Tensor, label: Tensor, perturbation: Perturbation) -> Tensor:
        noise, interpolation, target = perturbation
        mask, (start, goal, _) = label & ON_PATH, ends(label)

        def path(maps: Tensor) -> Tensor:
            cells = start.repeat(len(noise)), goal.repeat(len(noise))
            found, _ = torch.ops.emnesy_gpu.grid_paths_shortest_path(rounded_costs(maps).flatten(0, 1), *cells)
            return found.view(maps.shape)

        costs, noise = costs.detach(), noise.to(costs)
        found = path(costs + noise)
        moved = path((costs + interpolation * (1 - 2 * mask.to(costs.dtype)) if target is None else target) + noise)
        ctx.save_for_backward((moved.to(costs.dtype) - found).mean(0) / interpolation)
        return (found != mask).flatten(2).sum(2).to(costs.dtype).mean(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream[:, None, None] * gradient, None, None
