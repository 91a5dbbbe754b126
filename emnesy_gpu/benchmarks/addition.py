"""The benchmark of addition: the fused E-step against unfused torch, BP-std, a softmax and a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines.carry_chain_torch import bp_em_posterior
from emnesy_gpu.benchmarks.suite import Suite
from emnesy_gpu.reference import carry_chain as reference

DIGITS = (1, 4, 15, 100, 1000)
BATCHES = (64, 256, 1024)
METHODS = {
    "fused": "posterior and evidence from logits, one fused kernel",
    "fused gradient": "EM gradient and evidence from logits, one fused kernel",
    "fused loss": "fused_em_loss and its gradient through autograd, as a training step takes it",
    "torch EM": "posterior by forward-backward messages in torch, no autograd",
    "BP-std": "gradient by autograd through the log-space forward recursion",
    "softmax": "torch.softmax of the logits alone",
    "copy": "a copy of the logits",
}


def inputs(n_digits: int, batch: int, device: torch.device) -> tuple[em.Addition, Tensor, Tensor]:
    """The problem, with logits of a half-trained net (s.d. 3, the true digit favoured by 2) and their label."""
    problem = em.Addition(n_digits)
    generator = torch.Generator().manual_seed(n_digits)
    shape = (batch, 2, n_digits)
    z = torch.randint(0, 10, shape, generator=generator)
    logits = 3 * torch.randn(*shape, 10, generator=generator)
    logits.scatter_add_(-1, z[..., None], torch.full((*shape, 1), 2.0))
    return problem, logits.to(device), problem.label(z).to(device)


def methods(problem: em.Addition, logits: Tensor, label: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each method as a call without arguments; the first five return the marginals or the gradient of the logits."""
    leaf = logits.clone().requires_grad_()
    target = torch.empty_like(logits)

    def bp_std() -> Tensor:
        (gradient,) = torch.autograd.grad(em.bp_std_loss(problem, leaf, label, "sum"), leaf)
        return gradient

    def fused_loss() -> Tensor:
        (gradient,) = torch.autograd.grad(em.fused_em_loss(problem, leaf, label, "sum"), leaf)
        return gradient

    return {
        "fused": lambda: em.posterior(problem, logits, label).marginals,
        "fused gradient": lambda: problem.em_gradient(logits, label, 1.0, True)[0],
        "fused loss": fused_loss,
        "torch EM": lambda: bp_em_posterior(problem, logits, label)[0],
        "BP-std": bp_std,
        "softmax": lambda: torch.softmax(logits, -1),
        "copy": lambda: target.copy_(logits),
    }


def errors(problem: em.Addition, logits: Tensor, label: Tensor, rows: int = 16) -> dict[str, float]:
    """The largest error of each inference method against the float64 reference, over the first rows."""
    some, labels = logits[:rows], label[:rows]
    marginals, _, _ = reference.posterior(some.double(), labels)
    gradient = torch.softmax(some.double(), -1) - marginals
    expected = {"fused": marginals, "torch EM": marginals}
    expected |= dict.fromkeys(("fused gradient", "fused loss", "BP-std"), gradient)
    calls = methods(problem, some, labels)
    return {name: float((calls[name]() - value).abs().max()) for name, value in expected.items()}


SUITE = Suite(
    name="addition",
    title="Addition",
    size_name="digits",
    sizes=DIGITS,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=methods,
    errors=errors,
    unit="position",
    work=lambda n_digits: n_digits,
)
