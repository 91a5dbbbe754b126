"""Engines of other libraries as engines of this package: dynamax and KLay.

    python examples/engines_of_others.py

What is installed takes part. Each engine is compared with ``em.Exact`` on a chain of five symbols whose neighbours
prefer to be alike. docs/other_engines.md explains what an engine must do.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

import emnesy_gpu as em

N, K = 5, 3
ALIKE = np.full((K, K), 1.0) + 3.0 * np.eye(K)
"""The weight of two neighbours, [value, next value]."""


def chain() -> em.FactorGraph:
    graph = em.FactorGraph(n_variables=N, cardinality=K)
    graph.add(em.factors.pairwise(ALIKE), [(i, i + 1) for i in range(N - 1)])
    return graph


def result(marginals: Any, log_evidence: Any, logits: Tensor) -> em.Posterior:
    """Arrays of any library as a posterior on the device of the logits."""
    q, evidence = (torch.from_numpy(np.array(part)).to(logits) for part in (marginals, log_evidence))
    return em.Posterior(q, evidence, evidence > -torch.inf)


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
        constant = (N - 1) * np.log(total[0, 0]) + np.log(K)
        return result(smoothed.smoothed_probs, smoothed.marginal_loglik + constant, logits)


class KLay(em.Engine):
    """A circuit with a differentiable log evidence: its gradient with respect to log p_i(v) is the posterior."""

    asks = object

    def infer(self, problem: em.Circuit, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        import klay

        circuit = klay.Circuit()
        values = [[circuit.literal_node(1 + K * i + v) for v in range(K)] for i in range(N)]
        rest = list(values[-1])
        for i in reversed(range(N - 1)):  # alike neighbours or not, from the last to the first: "not" weighs 1, alike 4
            alike = circuit.literal_node(1 + K * N)
            any_next = circuit.or_node(rest)
            rest = [
                circuit.and_node([values[i][v], circuit.or_node([circuit.and_node([alike, rest[v]]), any_next])])
                for v in range(K)
            ]
        circuit.set_root(circuit.or_node(rest))
        with torch.enable_grad():
            prior = torch.log_softmax(logits, -1).detach().requires_grad_()
            extra = prior.new_full((len(prior), 1), float(np.log(ALIKE[0, 0] - ALIKE[0, 1])))
            weights = torch.cat([prior.flatten(1), extra], 1)
            module = circuit.to_torch_module(semiring="log", compile=False)
            evidence = module(weights, torch.zeros_like(weights)).reshape(len(prior), -1)[:, 0]
            (q,) = torch.autograd.grad(evidence.sum(), prior)
        return em.Posterior(q, evidence.detach(), evidence.detach() > -torch.inf)


ENGINES: dict[str, type[em.Engine]] = {"dynamax": Dynamax, "klay": KLay}
"""Package -> engine."""


def differences(rows: int = 16) -> Iterator[tuple[str, float, float]]:
    """Largest differences of marginals and of log evidence from the exact ones, for every package that is installed."""
    logits = torch.randn(rows, N, K, generator=torch.Generator().manual_seed(0))
    problem, label = chain(), torch.ones(rows, dtype=torch.int64)
    exact = em.posterior(problem, logits, label)
    for name, engine in ENGINES.items():
        if find_spec(name) is not None:
            post = em.posterior(problem, logits, label, engine())
            away = [(post.marginals - exact.marginals), (post.log_evidence - exact.log_evidence)]
            yield name, *(float(part.abs().max()) for part in away)


def main() -> None:
    for name, marginals, evidence in differences():
        print(f"{name}: marginals differ by at most {marginals:.1e}, log evidence by {evidence:.1e}")


if __name__ == "__main__":
    main()
