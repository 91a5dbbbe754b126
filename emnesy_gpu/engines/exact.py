"""Exact posterior marginals."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from emnesy_gpu.engines.engine import Engine, Posterior
from emnesy_gpu.inference.results import Marginals
from emnesy_gpu.problems import Problem


@runtime_checkable
class ExactProblem(Protocol):
    """What ``em.Exact`` asks of a problem. ``Problem.tractable`` says whether it can at its size."""

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        """Exact marginals and evidence.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            ``Marginals``: probabilities like the logits (float32, or float64 for float64 logits), the prior where the
            label is impossible; log p(y | x) [batch], -inf there; possible [batch].
        """
        ...


class Exact(Engine[ExactProblem]):
    """Exact marginals and evidence: q_i(v) = p(z_i = v | y, x), log_evidence = log p(y | x).

    Deterministic. By sum-product on the carry chain for ``em.Addition``; over a list of the assignments for
    ``em.AllDifferent`` (``em.Sudoku(4)``) and ``em.BlackBox``, where they are few enough.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Addition(n_digits=1)
    >>> post = em.posterior(problem, torch.zeros(1, 2, 1, 10), torch.tensor([[1, 8]]), em.Exact())
    >>> post.marginals.argmax(-1).flatten().tolist()                     # 18 = 9 + 9 only
    [9, 9]
    """

    asks = ExactProblem

    def supports(self, problem: Problem) -> bool:
        return super().supports(problem) and problem.tractable

    def infer(self, problem: ExactProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        return Posterior(*problem.exact_marginals(logits, label, check))
