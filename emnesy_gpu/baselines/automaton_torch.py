"""Automata in plain torch: forward-backward messages without autograd, and the evidence for autograd to walk through.

What one writes in PyTorch without a posterior engine: rescaled probabilities in the dtype of the logits, one gather and
one sum by index for each position, every intermediate a tensor. A baseline for speed and memory: very confident wrong
logits underflow here, and impossible labels give NaN, which the kernels and the reference do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from emnesy_gpu.problems import Automaton


class Step(NamedTuple):
    """The edges [E] of one position, one for each value, and the weight that the label gives each state."""

    source: Tensor
    value: Tensor
    target: Tensor
    weight: Tensor
    seen: Tensor | None  # [batch, S]


@torch.no_grad()
def posterior(problem: Automaton, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Marginals [batch, n, K] and log evidence [batch], for symbols in reading order."""
    prior = torch.softmax(logits, -1)
    alphas, log_scale, steps = _forward(problem, prior, label)
    beta = torch.ones_like(alphas[-1])
    marginals = torch.empty_like(prior)
    for i in reversed(range(len(steps))):
        step = steps[i]
        ahead = (beta if step.seen is None else beta * step.seen)[:, step.target] * step.weight
        rest = torch.zeros_like(prior[:, i]).index_add_(1, step.value, alphas[i][:, step.source] * ahead)
        joint = rest * prior[:, i]
        marginals[:, i] = joint / joint.sum(1, keepdim=True)
        beta = torch.zeros_like(beta).index_add_(1, step.source, ahead * prior[:, i, step.value])
        beta = beta / beta.amax(1, keepdim=True)
    return marginals, log_scale


def log_evidence(problem: Automaton, logits: Tensor, label: Tensor) -> Tensor:
    """log p(y | x) [batch], differentiable: BP-std is autograd through the forward messages."""
    return _forward(problem, torch.softmax(logits, -1), label)[1]


def _forward(problem: Automaton, prior: Tensor, label: Tensor) -> tuple[list[Tensor], Tensor, list[Step]]:
    """alpha_i for i = 0 .. n, each of sum 1, the log evidence, and the steps."""
    steps = _steps(problem, prior, label)
    tables = problem.tables(prior.device)
    alpha = tables.start.to(prior.dtype).expand(len(prior), -1)
    alphas, log_scale = [alpha], tables.log_scale.to(prior.dtype).expand(len(prior))
    for i, step in enumerate(steps):
        along = alpha[:, step.source] * prior[:, i, step.value] * step.weight
        alpha = torch.zeros_like(alpha).index_add(1, step.target, along)
        if step.seen is not None:
            alpha = alpha * step.seen
        total = alpha.sum(1, keepdim=True)
        alpha = alpha / total
        log_scale = log_scale + total[:, 0].log()
        alphas.append(alpha)
    return alphas, log_scale, steps


def _steps(problem: Automaton, prior: Tensor, label: Tensor) -> list[Step]:
    tables = problem.tables(prior.device)
    label = label.view(len(prior), -1)
    layers = [_edges(problem, layer, prior) for layer in range(len(tables.n_classes))]
    steps = []
    for layer, entry in zip(tables.layer.tolist(), tables.entry.tolist(), strict=True):
        seen = None if entry < 0 else tables.emissions[entry, tables.codes[entry, label[:, entry] + 2]].to(prior.dtype)
        steps.append(layers[layer]._replace(seen=seen))
    return steps


def _edges(problem: Automaton, layer: int, prior: Tensor) -> Step:
    tables = problem.tables(prior.device)
    first = tables.out_first[layer].long()
    some = slice(int(first[0]), int(first[-1]))
    source = torch.repeat_interleave(torch.arange(len(first) - 1, device=first.device), first.diff())
    # A class stands for all its values.
    edge, value = (tables.out_class[some, None] == tables.classes[layer]).nonzero(as_tuple=True)
    weight = tables.out_weight[some][edge].to(prior.dtype)
    return Step(source[edge], value, tables.out_target[some].long()[edge], weight, None)
