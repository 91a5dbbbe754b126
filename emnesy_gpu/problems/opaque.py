"""Methods of problems that torch.compile does not trace: checks, loops and functions of the user stay in one node.

In a compiled graph a method becomes the operator of ``ops.methods`` that calls it. Outside it is the method itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from emnesy_gpu import ops  # noqa: F401 - importing ops registers the operators
from emnesy_gpu.inference.results import Beliefs, Chains, MapAssignment, Marginals, Weighted
from emnesy_gpu.inference.settings import ChainSettings, LoopySettings, SamplingSettings

Method = TypeVar("Method", bound=Callable[..., Any])


def opaque(method: Method) -> Method:
    """Decorate an inference method of a problem that computes in torch, and not by operators."""
    traced = TRACED[method.__name__]

    @functools.wraps(method)
    def call(self: Any, logits: Tensor, label: Tensor, *others: Any) -> Any:
        if torch.compiler.is_compiling():
            return traced(logits, label, self.handle, *others)
        return method(self, logits, label, *others)

    return call  # type: ignore[return-value]


def _exact(logits: Tensor, label: Tensor, problem: int, check: bool) -> Marginals:
    return Marginals(*torch.ops.emnesy_gpu.methods_exact_marginals(logits, label, problem, check))


def _gradient(logits: Tensor, label: Tensor, problem: int, scale: float, check: bool) -> tuple[Tensor, Tensor]:
    results: tuple[Tensor, Tensor] = torch.ops.emnesy_gpu.methods_em_gradient(logits, label, problem, scale, check)
    return results


def _map(logits: Tensor, label: Tensor, problem: int, check: bool) -> MapAssignment:
    return MapAssignment(*torch.ops.emnesy_gpu.methods_map_assignment(logits, label, problem, check))


def _loopy(logits: Tensor, label: Tensor, problem: int, settings: LoopySettings, check: bool) -> Beliefs:
    form = settings.iterations, float(settings.damping), settings.schedule, settings.factors, float(settings.tolerance)
    results = torch.ops.emnesy_gpu.methods_loopy_marginals(logits, label, problem, *form, check)
    return Beliefs(Marginals(*results[:3]), *results[3:])


def _sample(*arguments: Any) -> Any:
    return torch.ops.emnesy_gpu.methods_sample(*arguments)


def _weighted(logits: Tensor, label: Tensor, problem: int, settings: SamplingSettings, check: bool) -> Weighted:
    form = settings.weighting or "", float(settings.sharpness), settings.scope, settings.target_ess or 0.0
    numbers = settings.samples, *form, settings.seed, settings.first_row
    results = torch.ops.emnesy_gpu.methods_weighted_marginals(logits, label, problem, *numbers, check)
    return Weighted(Marginals(*results[:3]), *results[3:])


def _gibbs(logits: Tensor, label: Tensor, problem: int, settings: ChainSettings, check: bool) -> Chains:
    numbers = settings.chains, settings.sweeps, float(settings.penalty), settings.seed, settings.first_row
    *marginals, satisfied = torch.ops.emnesy_gpu.methods_gibbs_marginals(logits, label, problem, *numbers, check)
    return Chains(Marginals(*marginals), satisfied)


TRACED: dict[str, Callable[..., Any]] = {
    "exact_marginals": _exact,
    "em_gradient": _gradient,
    "loopy_marginals": _loopy,
    "map_assignment": _map,
    "sample": _sample,
    "weighted_marginals": _weighted,
    "gibbs_marginals": _gibbs,
}
"""Name of a method -> the operator that calls it, with the arguments and the result of the method."""
