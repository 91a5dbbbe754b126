"""I-MLE, implicit maximum likelihood: blackbox backpropagation on costs with noise."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.baselines.path_loss import differing_cells
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
) -> Tensor:
    """The loss ``em.blackbox_loss`` with Gumbel noise e on the costs, in the value and in the gradient.

    This is implicit maximum likelihood (I-MLE: Niepert et al., NeurIPS 2021) for the Hamming loss: perturb and MAP.
    The gradient in the costs c is (path(c + e + interpolation * (1 - 2 label)) - path(c + e)) / interpolation, with the
    same noise in both paths. Value and gradient are means over ``samples`` draws of e.

    Args:
        problem, costs, label, reduction, interpolation: as for ``em.blackbox_loss``, which has the same errors.
        samples: draws of the noise per map, at least 1.
        temperature: scale of the noise, in units of the costs.
        generator: random generator of the noise on the device of the costs; None takes torch's default. Equal states
            give equal losses.

    Cost: two cheapest paths per row and sample.

    >>> import torch, emnesy_gpu as em
    >>> costs = torch.ones(1, 3, 3, requires_grad=True)
    >>> label, noise = torch.eye(3, dtype=torch.uint8)[None], torch.Generator().manual_seed(0)
    >>> em.imle_loss(em.ShortestPath(3), costs, label, temperature=0.1, generator=noise).item()
    0.0
    """
    uniform = torch.rand(samples, *costs.shape, generator=generator, device=costs.device).clamp(1e-20, 1 - 1e-7)
    noise = -temperature * (-uniform.log()).log()
    return differing_cells(problem, costs, label, reduction, noise, interpolation)
