"""What the benchmarks of exact E-steps share: the methods, their calls, their errors, and logits to run them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.benchmarks.suite import Calls

METHODS = {
    "fused": "posterior and evidence from logits, one fused kernel",
    "fused gradient": "EM gradient and evidence from logits, one fused kernel",
    "fused loss": "fused_em_loss and its gradient through autograd, as a training step takes it",
    "torch EM": "posterior by forward-backward messages in torch, no autograd",
    "BP-std": "gradient by autograd through the forward messages in torch",
    "softmax": "torch.softmax of the logits alone",
    "copy": "a copy of the logits",
}


class TensorMethods(NamedTuple):
    """What can be done with tensors alone, from a problem, logits and label."""

    posterior: Callable[[Any, Tensor, Tensor], Tensor]
    """The marginals."""

    loss: Callable[[Any, Tensor, Tensor], Tensor]
    """The sum of -log p(label) over the rows, differentiable."""


def half_trained_logits(z: Tensor, cardinality: int, generator: torch.Generator) -> Tensor:
    """Logits of a half-trained net: s.d. 3, the true value favoured by 2."""
    logits = 3 * torch.randn(*z.shape, cardinality, generator=generator)
    return logits.scatter_add_(-1, z[..., None], torch.full((*z.shape, 1), 2.0))


def calls(tensors: TensorMethods, problem: Any, logits: Tensor, label: Tensor) -> Calls:
    """Each method as a call without arguments; the first five return the marginals or the gradient of the logits."""
    leaf = logits.clone().requires_grad_()
    target = torch.empty_like(logits)

    def gradient_of(loss: Callable[..., Tensor], *arguments: Any) -> Callable[[], Tensor]:
        return lambda: torch.autograd.grad(loss(problem, leaf, label, *arguments), leaf)[0]

    return {
        "fused": lambda: em.posterior(problem, logits, label).marginals,
        "fused gradient": lambda: problem.em_gradient(logits, label, 1.0, True)[0],
        "fused loss": gradient_of(em.fused_em_loss, "sum"),
        "torch EM": lambda: tensors.posterior(problem, logits, label),
        "BP-std": gradient_of(tensors.loss),
        "softmax": lambda: torch.softmax(logits, -1),
        "copy": lambda: target.copy_(logits),
    }


def errors(tensors: TensorMethods, problem: Any, logits: Tensor, label: Tensor, rows: int = 16) -> dict[str, float]:
    """The largest error of each inference method against the float64 reference, over the first rows."""
    some, labels = logits[:rows], label[:rows]
    with em.backend("reference"):
        marginals = em.posterior(problem, some.double(), labels).marginals
    gradient = torch.softmax(some.double(), -1) - marginals
    expected = {"fused": marginals, "torch EM": marginals}
    expected |= dict.fromkeys(("fused gradient", "fused loss", "BP-std"), gradient)
    found = calls(tensors, problem, some, labels)
    return {name: float((found[name]() - value).abs().max()) for name, value in expected.items()}
