"""BP-std, the likelihood by belief propagation in plain torch, with autograd through every message."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines import all_different_autograd, carry_chain_autograd
from emnesy_gpu.baselines.beliefs import log_not
from emnesy_gpu.problems import Addition, AllDifferent, Problem
from emnesy_gpu.reduction import reduce


def bp_std_loss(
    problem: Problem, logits: Tensor, label: Tensor, reduction: str = "mean", iterations: int = 5
) -> Tensor:
    """The loss -log p(y | x) by belief propagation in plain torch, with autograd through every message.

    This is the baseline BP-std of EM-NeSy (arXiv 2606.14463), vectorised, in the dtype of the logits. For ``Addition``
    it is exact, by the log-space forward recursion over the carries. For ``AllDifferent`` and ``Sudoku`` it is the
    Bethe estimate after ``iterations`` serial sweeps with all-different factors, and -log(1 - Z) given label 0, with Z
    the estimate for label 1. An impossible label gives +inf and a gradient without meaning. Deterministic on a CPU.
    Cost: several torch calls per step, and memory for every message.

    Args:
        problem: ``em.Addition``, ``em.AllDifferent`` or ``em.Sudoku``.
        logits, label: as for ``em.posterior``; values are not checked. Differentiable in the logits.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        iterations: sweeps of loopy belief propagation.

    Raises TypeError for other problems, ValueError for an unknown reduction.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 1]])
    >>> round(em.bp_std_loss(problem, torch.zeros(1, 2, 1, 10), label).item(), 4)     # -log(2 / 100)
    3.912
    """
    if not isinstance(problem, (Addition, AllDifferent)):
        raise TypeError(f"problem must be an Addition, AllDifferent or Sudoku, got {problem!r}")
    checks.is_integer("iterations", iterations, 0, None)
    problem.checked(logits, label)
    if isinstance(problem, Addition):
        return reduce(-carry_chain_autograd.log_evidence(problem, logits, problem.digits_of(label)), reduction)
    factors = all_different_autograd.serial_factors_of(problem, logits.device)
    log_valid, _ = all_different_autograd.belief_propagation(logits.flatten(1, -2), factors, iterations)
    return reduce(-torch.where(label == 1, log_valid, log_not(log_valid)), reduction)
