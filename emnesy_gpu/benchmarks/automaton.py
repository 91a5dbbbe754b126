"""Automata: the fused E-step against a loop in torch, BP-std, a bare softmax and a copy of the same bytes.

The sum of the symbols modulo the number of states, s' = (s + v) mod S: every state is reached from min(K, S) others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import automaton_torch
from emnesy_gpu.benchmarks.suite import Suite

STATES = (2, 4, 16, 64, 256)
BATCHES = (64, 256, 1024)
SYMBOLS = 100
VALUES = 10
METHODS = {
    "fused": "posterior and evidence from logits, one fused kernel",
    "fused gradient": "EM gradient and evidence from logits, one fused kernel",
    "fused loss": "fused_em_loss and its gradient through autograd, as a training step takes it",
    "torch EM": "posterior by forward-backward messages in torch, no autograd",
    "BP-std": "gradient by autograd through the forward messages in torch",
    "softmax": "torch.softmax of the logits alone",
    "copy": "a copy of the logits",
}


def inputs(states: int, batch: int, device: torch.device) -> tuple[em.Automaton, Tensor, Tensor]:
    """Logits of a half-trained net (s.d. 3, the true value favoured by 2) and their label."""
    values = min(VALUES, states)
    problem = em.Automaton(lambda s, v: (s + v) % states, 0, lambda s: s, SYMBOLS, values)
    generator = torch.Generator().manual_seed(states)
    z = torch.randint(0, values, (batch, SYMBOLS), generator=generator)
    logits = 3 * torch.randn(batch, SYMBOLS, values, generator=generator)
    logits.scatter_add_(-1, z[..., None], torch.full((batch, SYMBOLS, 1), 2.0))
    return problem, logits.to(device), problem.label(z).to(device)


def methods(problem: em.Automaton, logits: Tensor, label: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each method as a call without arguments; the first five return what it takes to train."""
    leaf = logits.clone().requires_grad_()
    target = torch.empty_like(logits)

    def bp_std() -> Tensor:
        (gradient,) = torch.autograd.grad(-automaton_torch.log_evidence(problem, leaf, label).sum(), leaf)
        return gradient

    def fused_loss() -> Tensor:
        (gradient,) = torch.autograd.grad(em.fused_em_loss(problem, leaf, label, "sum"), leaf)
        return gradient

    return {
        "fused": lambda: em.posterior(problem, logits, label).marginals,
        "fused gradient": lambda: problem.em_gradient(logits, label, 1.0, True)[0],
        "fused loss": fused_loss,
        "torch EM": lambda: automaton_torch.posterior(problem, logits, label)[0],
        "BP-std": bp_std,
        "softmax": lambda: torch.softmax(logits, -1),
        "copy": lambda: target.copy_(logits),
    }


def errors(problem: em.Automaton, logits: Tensor, label: Tensor, rows: int = 16) -> dict[str, float]:
    """Largest error against the float64 reference over the first rows, of the methods that infer something."""
    some, labels = logits[:rows], label[:rows]
    with em.backend("reference"):
        marginals = em.posterior(problem, some.double(), labels).marginals
    gradient = torch.softmax(some.double(), -1) - marginals
    expected = {"fused": marginals, "torch EM": marginals}
    expected |= dict.fromkeys(("fused gradient", "fused loss", "BP-std"), gradient)
    calls = methods(problem, some, labels)
    return {name: float((calls[name]() - value).abs().max()) for name, value in expected.items()}


SUITE = Suite(
    name="automaton",
    title="Automata",
    size_name="states",
    sizes=STATES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=methods,
    errors=errors,
    unit="edge",
    work=lambda states: SYMBOLS * states * min(VALUES, states),
)
