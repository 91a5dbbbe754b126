"""The semantic loss: the probability that a constraint holds, with a bit for each value or with exclusive values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emnesy_gpu import checks
from emnesy_gpu.baselines.beliefs import LOG_ZERO, log_beliefs, log_bits, log_not
from emnesy_gpu.engines.exact import ExactProblem
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference.results import per_row
from emnesy_gpu.problems import AllDifferent, Problem
from emnesy_gpu.reduction import reduce


def semantic_loss(
    problem: Problem, logits: Tensor, label: Tensor, reduction: str = "mean", boolean: bool = True
) -> Tensor:
    """The loss -log P(constraint holds) for label 1, and -log(1 - P) for label 0.

    With ``boolean`` it is the semantic loss as published (Xu et al., ICML 2018, equation 1): every value of a symbol is
    an independent bit that is on with probability p_i(v), and P is the sum over the assignments z that hold of
    prod_i p_i(z_i) prod_{v != z_i} (1 - p_i(v)). Bits that make no assignment do not hold. Without, values exclude each
    other, P = sum_z prod_i p_i(z_i), and the loss is -log p(y | x), as that of ``em.fused_em_loss``. The two differ: on
    Sudoku 4x4 with random logits by about 12 nats.

    Args:
        problem: one with exact inference and the labels 1 and 0: a tractable ``em.AllDifferent`` or ``em.Sudoku``, or
            an ``em.Circuit`` or ``em.Automaton`` with these labels.
        logits, label: as for ``em.posterior``; values are not checked. Differentiable in the logits.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        boolean: whether values are bits, as published.

    Raises TypeError for a problem with other labels, UnsupportedInference for one without exact inference, ValueError
    for an unknown reduction. An impossible label gives +inf and a gradient of 0. Deterministic. Cost: one exact E-step,
    and K^2 terms a symbol for the bits.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.AllDifferent([(0, 1)], n_variables=2, cardinality=2)
    >>> logits, valid = torch.zeros(1, 2, 2), torch.tensor([1])
    >>> em.baselines.semantic_loss(problem, logits, valid).exp().item()        # 16 settings of 4 bits, 2 of them hold
    8.0
    >>> round(em.baselines.semantic_loss(problem, logits, valid, boolean=False).exp().item(), 4)
    2.0
    """
    if not (isinstance(problem, AllDifferent) or list(getattr(problem, "labels", ())) == [0, 1]):
        raise TypeError(f"problem must have the labels 1 (the constraint holds) and 0, got {problem!r}")
    if not (problem.tractable and isinstance(problem, ExactProblem)):
        raise UnsupportedInference(
            f"{problem!r} has no exact evidence: take a smaller problem, or em.baselines.pairwise_loss"
        )
    checks.is_flag("boolean", boolean)
    problem.checked(logits, label)
    log_p = log_beliefs(logits)
    if not boolean:
        return reduce(-_LogMass.apply(log_p, label, problem), reduction)
    log_holds = _LogMass.apply(log_bits(log_p), torch.ones_like(label), problem)
    return reduce(-torch.where(label == 1, log_holds, log_not(log_holds)), reduction)


class _LogMass(torch.autograd.Function):
    """log of the sum, over the assignments with the label, of prod_i exp(log_weights_i(z_i)): [batch]."""

    @staticmethod
    def forward(ctx: Any, log_weights: Tensor, label: Tensor, problem: ExactProblem) -> Tensor:
        log_weights = log_weights.masked_fill(log_weights <= LOG_ZERO, float("-inf"))
        exact = problem.exact_marginals(log_weights, label, False)
        ctx.save_for_backward(exact.marginals, exact.possible)
        return exact.log_evidence + log_weights.logsumexp(-1).flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        marginals, possible = ctx.saved_tensors
        return per_row(torch.where(possible, upstream, 0.0), marginals) * marginals, None, None
