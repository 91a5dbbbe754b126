"""Losses by sampled rewards: leave-one-out REINFORCE, and IndeCateR."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines.beliefs import check_row_loss, draw_beliefs, has_label, log_beliefs, log_joint_of
from emnesy_gpu.baselines.path_loss import ends_of_labels
from emnesy_gpu.problems import Problem, ShortestPath
from emnesy_gpu.reduction import reduce
from emnesy_gpu.reference.grid_paths import ON_PATH

SMALLEST_SHARE = 1e-8
"""Added to shares of samples, so that their logarithms are finite."""


def rloo_loss(
    problem: Problem,
    logits: Tensor,
    label: Tensor,
    reduction: str = "mean",
    samples: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """-log of the share of samples from the beliefs that have the label, with a leave-one-out gradient.

    REINFORCE (Williams, 1992) with the mean reward of the other samples as the baseline (Kool et al., 2019): with
    reward r_s = [label(z_s) = y] and z_s ~ prod_i p_i, the gradient of p(y | x) is estimated without bias by that of
    mean_s log p(z_s) (r_s - mean_{t != s} r_t). Divided by the share mean_s r_s it is that of log p(y | x), with a bias
    that falls with the samples. Rows of which no sample has the label have the loss 18.4 and no gradient.

    Args:
        problem, logits, label: as for ``em.posterior``; values are not checked. Differentiable in the logits.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        samples: draws per row, at least 2.
        generator: of the draws, on the device of the logits; None takes torch's default. Equal states give equal
            losses.

    Raises ValueError for fewer samples and for an unknown reduction. Cost: one label a sample.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 0]])               # 0 + 0 alone
    >>> sure = torch.zeros(1, 2, 1, 10).index_fill(3, torch.tensor([0]), 50.0)
    >>> em.baselines.rloo_loss(problem, sure, label).item()
    0.0
    """
    checks.is_integer("samples", samples, 2, checks.MOST_SYMBOLS)
    check_row_loss(problem, logits, label)
    log_p = log_beliefs(logits)
    z = draw_beliefs(log_p, samples, generator)
    reward = has_label(problem, z, label).to(log_p.dtype)
    return reduce(minus_log(reward.mean(0), leave_one_out(log_joint_of(log_p, z), reward)), reduction)


def indecater_loss(
    problem: Problem,
    logits: Tensor,
    label: Tensor,
    reduction: str = "mean",
    samples: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """-log of the share of samples from the beliefs that have the label, by IndeCateR.

    IndeCateR (De Smet et al., NeurIPS 2023) sets one symbol after the other to each of its values in all samples: the
    mean over symbols i of sum_v p_i(v) mean_s [label(z_s with z_i = v) = y] is the share, and the gradient of the sum
    over i is without bias that of p(y | x), with less variance than in ``em.baselines.rloo_loss``.

    Arguments, errors and units are those of ``em.baselines.rloo_loss``; one sample suffices. Cost: n_symbols *
    cardinality labels a sample.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 0]])
    >>> logits = torch.zeros(1, 2, 1, 10).index_fill(3, torch.tensor([0]), 50.0).requires_grad_()
    >>> em.baselines.indecater_loss(problem, logits, label, samples=1).item()
    0.0
    """
    checks.is_integer("samples", samples, 1, checks.MOST_SYMBOLS)
    check_row_loss(problem, logits, label)
    log_p = log_beliefs(logits)
    z = draw_beliefs(log_p, samples, generator)
    beliefs, symbols = log_p.exp().flatten(1, -2), z.flatten(2)
    surrogate = torch.zeros_like(beliefs[:, 0, 0])
    for i in range(symbols.shape[2]):
        for v in range(beliefs.shape[2]):
            clamped = symbols.index_fill(2, torch.tensor([i], device=z.device), v).view_as(z)
            reward = has_label(problem, clamped, label).to(log_p.dtype)
            surrogate = surrogate + beliefs[:, i, v] * reward.mean(0)
    return reduce(minus_log(surrogate.detach() / symbols.shape[2], surrogate), reduction)


def path_rloo_loss(
    problem: ShortestPath,
    logits: Tensor,
    label: Tensor,
    reduction: str = "mean",
    samples: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean number of cells that differ between the label and the cheapest paths of sampled maps.

    As ``em.baselines.rloo_loss``, with the distance h_s of the path of sample s from the label as what is to be small:
    the gradient of its mean E[h] is estimated without bias by that of
    mean_s log p(z_s) (h_s - mean_{t != s} h_t). A-NeSI trains on maps with this in part (van Krieken et al., 2023).

    Args:
        problem: an ``em.ShortestPath``.
        logits: float [batch, height, width, cardinality], differentiable. label: as for ``em.posterior``; values are
            not checked.
        reduction, samples, generator: as for ``em.baselines.rloo_loss``.

    Raises TypeError for another problem, ValueError for fewer samples than 2 and for an unknown reduction. Cost: one
    cheapest path a sample.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.ShortestPath(3), torch.eye(3, dtype=torch.uint8)[None]
    >>> sure = torch.zeros(1, 3, 3, 5).index_fill(3, torch.tensor([0]), 50.0)          # equal costs: the diagonal
    >>> em.baselines.path_rloo_loss(problem, sure, label).item()
    0.0
    """
    checks.is_instance("problem", problem, ShortestPath, "an em.ShortestPath")
    checks.is_integer("samples", samples, 2, checks.MOST_SYMBOLS)
    check_row_loss(problem, logits, label)
    log_p = log_beliefs(logits)
    z = draw_beliefs(log_p, samples, generator)
    start, goal = (end.expand(samples, -1, -1) for end in ends_of_labels(problem, label))
    found = problem.label(z, start, goal) & ON_PATH
    differ = (found != (label & ON_PATH)).flatten(2).sum(2).to(log_p.dtype)
    surrogate = leave_one_out(log_joint_of(log_p, z), differ)
    return reduce(differ.mean(0) + surrogate - surrogate.detach(), reduction)


def leave_one_out(log_joint: Tensor, reward: Tensor) -> Tensor:
    """What has, as its gradient, that of the mean reward of samples, without bias: mean over the first dimension."""
    others = (reward.sum(0) - reward) / (len(reward) - 1)
    return (log_joint * (reward - others)).mean(0)


def minus_log(share: Tensor, surrogate: Tensor) -> Tensor:
    """-log of the share, with minus the gradient of the surrogate over the share."""
    return -(share + SMALLEST_SHARE + surrogate - surrogate.detach()).log()
