"""What users do without a posterior engine: losses that differentiate through the inference, or past it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emnesy_gpu import checks
from emnesy_gpu.ops.grid_paths import ON_PATH, ends
from emnesy_gpu.problems import Addition, AllDifferent, Problem, ShortestPath
from emnesy_gpu.problems.shortest_path import rounded_costs
from emnesy_gpu.reduction import reduce
from emnesy_gpu.reference import all_different_autograd, carry_chain_autograd


def bp_std_loss(
    problem: Problem, logits: Tensor, label: Tensor, reduction: str = "mean", iterations: int = 5
) -> Tensor:
    """BP-std: -log p(y | x) by belief propagation in plain torch, with autograd through every message.

    The baseline of EM-NeSy (arXiv 2606.14463): vectorised, in the dtype of the logits, and as fast as torch allows. Its
    memory holds every message. For ``Addition`` it is exact (the log-space forward recursion over the carries); for
    ``AllDifferent`` and ``Sudoku`` it is the Bethe estimate after ``iterations`` serial sweeps with all-different
    factors, and -log(1 - Z) given label 0. An impossible label gives +inf and a gradient without meaning.

    Args:
        problem: ``em.Addition``, ``em.AllDifferent`` or ``em.Sudoku``.
        logits, label: as for ``em.posterior``; values are not checked.
        reduction: "mean", "sum" or "none" over the batch.
        iterations: sweeps of loopy belief propagation.

    Raises TypeError for other problems, ValueError for an unknown reduction.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 1]])
    >>> round(em.bp_std_loss(problem, torch.zeros(1, 2, 1, 10), label).item(), 4)     # -log(2 / 100)
    3.912
    """
    if isinstance(problem, Addition):
        return reduce(-carry_chain_autograd.log_evidence(problem, logits, label), reduction)
    if not isinstance(problem, AllDifferent):
        raise TypeError(f"problem must be an Addition, AllDifferent or Sudoku, got {problem!r}")
    symbols, factors = logits.flatten(1, -2), problem.serial_factors(logits.device)
    log_valid, _ = all_different_autograd.belief_propagation(symbols, factors, iterations)
    log_invalid = torch.log(-torch.expm1(log_valid.clamp(max=-torch.finfo(logits.dtype).eps)))
    return reduce(-torch.where(label == 1, log_valid, log_invalid), reduction)


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
    return imle_loss(problem, costs, label, reduction, samples=1, temperature=0.0, interpolation=interpolation)


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
    """The same with Gumbel noise on the costs, in the value and in the gradient: perturb and MAP.

    Implicit maximum likelihood (I-MLE: Niepert et al., NeurIPS 2021) for the Hamming loss. Both paths of the difference
    see the same noise; value and gradient are means over ``samples`` draws.

    Args:
        problem, costs, label, reduction, interpolation: as for ``blackbox_loss``.
        samples: noise draws per map, at least 1.
        temperature: scale of the noise, in units of the costs.
        generator: of the noise; None takes torch's own.
    """
    if not isinstance(problem, ShortestPath):
        raise TypeError(f"problem must be a ShortestPath, got {problem!r}")
    checks.has_trailing_shape("costs", costs, problem.latent_shape)
    checks.has_trailing_shape("label", label, problem.label_shape)
    uniform = torch.rand(samples, *costs.shape, generator=generator, device=costs.device).clamp(1e-20, 1 - 1e-7)
    noise = -temperature * (-uniform.log()).log()
    return reduce(_PathLoss.apply(costs, label, noise.to(costs.dtype), interpolation), reduction)


class _PathLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, costs: Tensor, label: Tensor, noise: Tensor, interpolation: float) -> Tensor:
        mask, (start, goal, _) = label & ON_PATH, ends(label)

        def path(maps: Tensor) -> Tensor:
            cells = start.repeat(len(noise)), goal.repeat(len(noise))
            found, _ = torch.ops.emnesy_gpu.grid_paths_shortest_path(rounded_costs(maps).flatten(0, 1), *cells)
            return found.view(maps.shape)

        noisy = costs.detach() + noise
        found = path(noisy)
        moved = path(noisy + interpolation * (1 - 2 * mask.to(costs.dtype)))
        ctx.save_for_backward((moved.to(costs.dtype) - found).mean(0) / interpolation)
        return (found != mask).flatten(2).sum(2).to(costs.dtype).mean(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream[:, None, None] * gradient, None, None, None
