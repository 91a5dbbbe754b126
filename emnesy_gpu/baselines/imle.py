"""I-MLE, implicit maximum likelihood: blackbox backpropagation on costs with noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines.path_loss import Perturbation, check_maps, differing_cells
from emnesy_gpu.problems import ShortestPath


def imle_loss(
    problem: ShortestPath,
    costs: Tensor,
    label: Tensor,
    reduction: str = "mean",
    samples: int = 1,
    temperature: float = 1.0,
    interpolation: float = 20.0,
    generator: torch.Generator | None = None,
    noise: str = "gumbel",
    true_costs: Tensor | None = None,
) -> Tensor:
    """The loss ``em.blackbox_loss`` with noise e on the parameters -c, in the value and in the gradient.

    This is implicit maximum likelihood (I-MLE: Niepert et al., NeurIPS 2021) for the Hamming loss: perturb and MAP of
    the distribution over paths with log weights -c. The gradient in the costs c is
    (path(target - e) - path(c - e)) / interpolation, with target c + interpolation * (1 - 2 label), or the true costs
    where they are given, and the same noise in both paths. Value and gradient are means over ``samples`` draws of e.

    Args:
        problem, costs, label, reduction, interpolation: as for ``em.blackbox_loss``, which has the same errors.
        samples: draws of the noise per map, at least 1.
        temperature: scale of the noise, in units of the costs.
        generator: random generator of the noise on the device of the costs; None takes torch's default. Equal states
            give equal losses.
        noise: "gumbel", or "sum_of_gamma", whose sums over the 1.3 * height cells of a path are nearly Gumbel: with
            k such cells, (sum_{i=1..10} Gamma(1 / k, scale k / i) - log 10) / k.
        true_costs: float [batch, height, width]: costs of the label that the target takes; such a loss learns from
            more than the path.

    Raises ValueError for an unknown noise or true costs of another shape.

    Cost: two cheapest paths per row and sample.

    >>> import torch, emnesy_gpu as em
    >>> costs = torch.ones(1, 3, 3, requires_grad=True)
    >>> label, noise = torch.eye(3, dtype=torch.uint8)[None], torch.Generator().manual_seed(0)
    >>> em.imle_loss(em.ShortestPath(3), costs, label, temperature=0.1, generator=noise).item()
    0.0
    """
    check_maps(problem, costs, label)
    checks.is_one_of("noise", noise, tuple(NOISES))
    checks.is_integer("samples", samples, 1, checks.MOST_SYMBOLS)
    checks.is_number("temperature", temperature, 0.0)
    checks.is_positive("interpolation", interpolation)
    if true_costs is not None:
        checks.is_tensor("true_costs", true_costs)
        checks.has_trailing_shape("true_costs", true_costs, problem.latent_shape)
    draws = temperature * NOISES[noise](torch.Size([samples, *costs.shape]), costs.device, generator)
    return differing_cells(problem, costs, label, reduction, Perturbation(-draws, interpolation, true_costs))


def _gumbel(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(shape, generator=generator, device=device).clamp(1e-20, 1 - 1e-7)
    return -(-uniform.log()).log()


def _sum_of_gamma(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    cells = int(1.3 * shape[-2])
    total = torch.zeros(shape, device=device)
    for i in range(1, 11):
        total += cells / i * torch._standard_gamma(torch.full(shape, 1 / cells, device=device), generator)
    return (total - math.log(10)) / cells


NOISES = {"gumbel": _gumbel, "sum_of_gamma": _sum_of_gamma}
