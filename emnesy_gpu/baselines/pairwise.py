"""The pairwise loss: each pair of symbols that must differ counts by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.baselines.beliefs import log_beliefs, log_complements, log_not
from emnesy_gpu.problems import AllDifferent
from emnesy_gpu.reduction import reduce


def pairwise_loss(problem: AllDifferent, logits: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
    """The loss -log Q for label 1 and -log(1 - Q) for label 0, with Q = prod_pairs (1 - sum_v p_i(v) p_j(v)).

    The product runs over the pairs of symbols that must differ, as if they were independent. It is what the prediction
    model of A-NeSI (van Krieken et al., NeurIPS 2023) tends to on Sudoku, where it has one factor a pair, and the
    constraint in product logic (logic tensor networks: Badreddine et al., 2022). Other than the evidence it counts
    symbols of several pairs several times.

    Args:
        problem: ``em.AllDifferent`` or ``em.Sudoku`` of any size.
        logits, label: as for ``em.posterior``; values are not checked. Differentiable in the logits.
        reduction: "mean" or "sum" over the batch, "none" for [batch].

    Raises TypeError for other problems, ValueError for an unknown reduction. Deterministic on a CPU. Cost: K terms a
    pair, and K^2 a symbol.

    >>> import torch, emnesy_gpu as em
    >>> problem, valid = em.AllDifferent([(0, 1, 2)], n_variables=3, cardinality=4), torch.tensor([1])
    >>> round(em.baselines.pairwise_loss(problem, torch.zeros(1, 3, 4), valid).exp().item(), 4)       # (4 / 3) ** 3
    2.3704
    """
    if not isinstance(problem, AllDifferent):
        raise TypeError(f"problem must be an AllDifferent or Sudoku, got {problem!r}")
    problem.checked(logits, label)
    first, second = problem.tables(logits.device).pairs
    log_p = log_beliefs(logits.flatten(1, -2))
    log_differ = (log_p[:, first] + log_complements(log_p)[:, second]).logsumexp(-1)
    log_all = log_differ.sum(1)
    return reduce(-torch.where(label == 1, log_all, log_not(log_all)), reduction)
