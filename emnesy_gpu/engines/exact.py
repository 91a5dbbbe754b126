"""Exact posterior marginals."""

from __future__ import annotations

from torch import Tensor

from emnesy_gpu.engines.engine import Engine, Posterior
from emnesy_gpu.problems import Problem


class Exact(Engine):
    """Exact marginals and evidence: q_i(v) = p(z_i = v | y, x), log_evidence = log p(y | x).

    Deterministic. For ``Addition``: sum-product on the carry chain.
    """

    inference = "exact_marginals"

    def infer(self, problem: Problem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        return Posterior(*problem.exact_marginals(logits, label, check))
