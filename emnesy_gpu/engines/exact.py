"""The engine of exact inference."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from emnesy_gpu.engines.engine import Engine
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.inference.results import Marginals
from emnesy_gpu.problems import Problem
from emnesy_gpu.problems.few_rows import by_few_rows


@runtime_checkable
class ExactProblem(Protocol):
    """What ``em.Exact`` asks of a problem; a problem that is not ``tractable`` is never asked."""

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        """Compute exact marginals and evidence.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            ``Marginals``: probabilities of the shape of the logits, float32 (float64 for float64 logits), the prior
            where the label is impossible; log p(y | x) [batch], -inf there; possible, bool [batch].
        """
        ...


class Exact(Engine[ExactProblem]):
    """Exact marginals and evidence: q_i(v) = p(z_i = v | y, x), log_evidence = log p(y | x).

    It runs sum-product on the carry chain for ``em.Addition``, over states for ``em.Automaton``, and along the factors
    of an ``em.FactorGraph`` without cycles. It sums over a list of assignments for ``em.AllDifferent``
    (``em.Sudoku(4)``) and ``em.BlackBox``, where these are few enough.
    Impossible labels give the prior. Deterministic. Cost: see the problem. With exact marginals EM follows the gradient
    of log p(y | x): EM-NeSy (arXiv 2606.14463), Theorem 3.1.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Addition(n_digits=1)
    >>> post = em.posterior(problem, torch.zeros(1, 2, 1, 10), torch.tensor([[1, 8]]), em.Exact())
    >>> post.marginals.argmax(-1).flatten().tolist()                     # 18 = 9 + 9 only
    [9, 9]
    """

    asks = ExactProblem

    def supports(self, problem: Problem) -> bool:
        return issubclass(type(problem), ExactProblem) and problem.tractable

    def infer(self, problem: ExactProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        found = by_few_rows(problem.exact_marginals, logits, label, 0.0, 1.0)
        return Posterior(*(found or problem.exact_marginals(logits, label, check)))
