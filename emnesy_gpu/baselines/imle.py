"""I-MLE: blackbox backpropagation on costs with noise."""

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
    """``em.blackbox_loss`` with Gumbel noise on the costs, in the value and in the gradient: perturb and MAP.

    Implicit maximum likelihood (I-MLE: Niepert et al., NeurIPS 2021) for the Hamming loss. Both paths of the difference
    see the same noise; value and gradient are means over ``samples`` draws.

    Args:
        problem, costs, label, reduction, interpolation: as for ``blackbox_loss``.
        samples: noise draws per map, at least 1.
        temperature: scale of the noise, in units of the costs.
        generator: of the noise; None takes torch's own.
    """
    uniform = torch.rand(samples, *costs.shape, generator=generator, device=costs.device).clamp(1e-20, 1 - 1e-7)
    noise = -temperature * (-uniform.log()).log()
    return differing_cells(problem, costs, label, reduction, noise, interpolation)
