"""The losses of other systems on cheapest paths as engines: the net gives a cost of each cell, or its classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

import emnesy_gpu as em
from emnesy_gpu.reduction import reduce
from emnesy_gpu.tasks.core.distributed import current
from emnesy_gpu.tasks.core.loss_engines import LossEngine

BLACKBOX_STEP, IMLE_STEP = 20 / 70, 10 / 70
"""How far the costs of each map are moved towards its label: 20 and 10 as published, by the gradient of a mean over 70
maps."""

COST_LOSSES = ("blackbox", "imle", "imle-true-costs", "spl")
"""The losses for costs of cells; "imle-true-costs" learns from the true costs too, as published figures do."""

CLASS_LOSSES: dict[str, Callable[..., Tensor]] = {
    "exal": em.baselines.path_exal_loss,
    "rloo": em.baselines.path_rloo_loss,
}
"""The losses for classes of cells, which they sample."""

PATH_LOSSES = (*COST_LOSSES, *CLASS_LOSSES)
"""The losses for cheapest paths."""

LARGEST_LAYER = 12
"""Cells along a side of maps that the layer of paths takes: 0.9 GB for 12, 6 GB for 14, out of reach for 18."""


def costs_of(name: str, logits: Tensor) -> Tensor:
    """Return the costs [..., height, width] that a loss reads from logits [..., height, width, classes].

    They are softplus of the first less the second logit; for all but the layer of paths, over their mean on the map. A
    path does not depend on the scale, and these losses lower it to 0 with a net that has no normalisation.
    """
    costs = softplus(logits[..., 0] - logits[..., 1])
    return costs if name == "spl" else _of_mean_one(costs)


def _of_mean_one(costs: Tensor) -> Tensor:
    return costs / costs.mean((-2, -1), keepdim=True)


def path_loss_engine(name: str, problem: em.ShortestPath, true_classes: Callable[[], Tensor | None]) -> LossEngine:
    """Return the engine of a loss of ``PATH_LOSSES``; ``true_classes`` returns those of the batch of the call.

    Raises ValueError for a loss that draws noise, on several ranks.
    """
    if name.startswith(("imle", *CLASS_LOSSES)) and current().size > 1:
        raise ValueError(f"engine {name!r} draws apart on every process: train with it on one process")
    if name in CLASS_LOSSES:
        return LossEngine(partial(CLASS_LOSSES[name], problem))
    of_costs = _loss_of_costs(name, problem, true_classes)
    return LossEngine(lambda logits, label, reduction: of_costs(problem, costs_of(name, logits), label, reduction))


def _loss_of_costs(
    name: str, problem: em.ShortestPath, true_classes: Callable[[], Tensor | None]
) -> Callable[..., Tensor]:
    """Return the loss of a problem, costs, labels and a reduction."""
    if name == "spl":
        return PathLayer(problem)
    if name == "blackbox":
        return partial(em.blackbox_loss, interpolation=BLACKBOX_STEP)
    imle = partial(em.imle_loss, noise="sum_of_gamma", interpolation=IMLE_STEP)
    if name == "imle":
        return imle
    table = torch.tensor(problem.costs)

    def with_true_costs(problem: em.ShortestPath, costs: Tensor, *others: Any) -> Tensor:
        classes = true_classes()
        assert classes is not None, "the classes of a batch must be known before its loss"
        return imle(problem, costs, *others, true_costs=_of_mean_one(table.to(costs)[classes.long()]))

    return with_true_costs


class PathLayer:
    """The semantic probabilistic layer: -log of p(path) = exp(-cost(path)) / Z, with the sum Z over all simple paths.

    A path without chords is a set of cells, and a cheapest path has none. So Z is the evidence of ``em.SimplePaths``
    for independent cells, which are on with odds exp(-cost), over the probability that all are off.
    """

    def __init__(self, problem: em.ShortestPath) -> None:
        self.paths = em.SimplePaths(problem.height, problem.width, over="cells", neighbours=8)

    def __call__(self, problem: em.ShortestPath, costs: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
        """Return the loss of masks of cells; costs [batch, height, width], label: uint8 of the same shape."""
        on_or_off = torch.stack([torch.zeros_like(costs), -costs], -1)
        valid = torch.ones(len(costs), dtype=torch.long, device=costs.device)
        of_paths = em.fused_em_loss(self.paths, on_or_off, valid, "none")
        return reduce((costs * label + softplus(-costs)).flatten(1).sum(1) - of_paths, reduction)
