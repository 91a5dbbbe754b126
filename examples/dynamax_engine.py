"""An engine of another library: the smoother of dynamax as an engine of this package.

    python examples/dynamax_engine.py

It is compared with ``em.Exact`` on a chain of symbols whose neighbours prefer to be alike. docs/other_engines.md
explains what an engine must do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import emnesy_gpu as em

N, K = 5, 3
ALIKE = np.full((K, K), 1.0) + 3.0 * np.eye(K)
"""The weight of two neighbours, [value, next value]."""


class Dynamax(em.Engine):
    """The smoother of a hidden Markov model: beliefs of the net take the place of likelihoods."""

    asks = object

    def infer(self, problem: em.FactorGraph, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        import jax
        from dynamax.hidden_markov_model import hmm_smoother

        total = ALIKE.sum(1, keepdims=True)  # a transition matrix has rows that sum to 1: all have the same sum here
        prior = torch.log_softmax(logits, -1).numpy()
        start, step = np.full(K, 1.0 / K), ALIKE / total
        smoothed = jax.vmap(lambda likelihood: hmm_smoother(start, step, likelihood))(prior)
        evidence = smoothed.marginal_loglik + (N - 1) * np.log(total[0, 0]) + np.log(K)
        q, log_evidence = as_tensor(smoothed.smoothed_probs, logits), as_tensor(evidence, logits)
        return em.Posterior(q, log_evidence, log_evidence > -torch.inf)


def as_tensor(array: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(array)).to(like)


def differences(rows: int = 16) -> tuple[float, float]:
    """The largest differences of marginals and of log evidence from the exact ones."""
    graph = em.FactorGraph(n_variables=N, cardinality=K)
    graph.add(em.factors.pairwise(ALIKE), [(i, i + 1) for i in range(N - 1)])
    logits, label = torch.randn(rows, N, K), torch.ones(rows, dtype=torch.int64)
    exact, post = em.posterior(graph, logits, label), em.posterior(graph, logits, label, Dynamax())
    pairs = (post.marginals, exact.marginals), (post.log_evidence, exact.log_evidence)
    return tuple(float((theirs - ours).abs().max()) for theirs, ours in pairs)


if __name__ == "__main__":
    print("marginals differ by at most {:.1e}, log evidence by {:.1e}".format(*differences()))
