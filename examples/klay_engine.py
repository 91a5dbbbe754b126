"""An engine of another library: a circuit of KLay as an engine of this package.

    python examples/klay_engine.py

It is compared with ``em.Exact`` on a chain of symbols whose neighbours prefer to be alike. docs/other_engines.md
explains what an engine must do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import emnesy_gpu as em

N, K, ALIKE = 5, 3, 4.0  # alike neighbours weigh 4, all others 1


class KLay(em.Engine):
    """A circuit with a differentiable log evidence: its gradient with respect to log p_i(v) is the posterior."""

    asks = object

    def infer(self, problem: em.FactorGraph, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        import klay

        circuit = klay.Circuit()
        values = [[circuit.literal_node(1 + K * i + v) for v in range(K)] for i in range(N)]
        more, rest = circuit.literal_node(1 + K * N), list(values[-1])  # ``more`` is what alike weighs beyond 1
        for i in reversed(range(N - 1)):
            any_next = circuit.or_node(rest)
            ways = [circuit.or_node([circuit.and_node([more, rest[v]]), any_next]) for v in range(K)]
            rest = [circuit.and_node([values[i][v], ways[v]]) for v in range(K)]
        circuit.set_root(circuit.or_node(rest))
        with torch.enable_grad():
            prior = torch.log_softmax(logits, -1).detach().requires_grad_()
            weights = torch.cat([prior.flatten(1), prior.new_full((len(prior), 1), math.log(ALIKE - 1.0))], 1)
            module = circuit.to_torch_module(semiring="log", compile=False)
            evidence = module(weights, torch.zeros_like(weights)).reshape(len(prior), -1)[:, 0]
            (q,) = torch.autograd.grad(evidence.sum(), prior)
        return em.Posterior(q, evidence.detach(), evidence.detach() > -torch.inf)


def differences(rows: int = 16) -> tuple[float, float]:
    """The largest differences of marginals and of log evidence from the exact ones."""
    graph = em.FactorGraph(n_variables=N, cardinality=K)
    graph.add(em.factors.pairwise(1.0 + (ALIKE - 1.0) * torch.eye(K)), [(i, i + 1) for i in range(N - 1)])
    logits, label = torch.randn(rows, N, K), torch.ones(rows, dtype=torch.int64)
    exact, post = em.posterior(graph, logits, label), em.posterior(graph, logits, label, KLay())
    pairs = (post.marginals, exact.marginals), (post.log_evidence, exact.log_evidence)
    return tuple(float((theirs - ours).abs().max()) for theirs, ours in pairs)


if __name__ == "__main__":
    print("marginals differ by at most {:.1e}, log evidence by {:.1e}".format(*differences()))
