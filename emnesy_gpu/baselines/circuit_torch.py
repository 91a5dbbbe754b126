"""Circuits in plain torch and in other engines: the log evidence level by level, and its gradient by autograd.

What one writes in PyTorch without a posterior engine: logarithms in the dtype of the logits, one gather and one sum by
index for each level, every intermediate a tensor. KLay (Maene, Derkinderen and Zuidberg Dos Martires, "KLay:
accelerating arithmetic circuits for neurosymbolic AI", 2024) does the same with fused layers; PySDD counts row by row.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.circuits.graph import Graph

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Logits [batch, n, K] -> log evidence [batch], and its gradient by the logarithms of the leaves [batch, n, K]."""


class Level(NamedTuple):
    """The terms [T] of the nodes of one level: rows, and the node of each term, counted from the first of the level."""

    n_nodes: int
    left: Tensor
    right: Tensor
    node: Tensor


def levels_of(graph: Graph, device: torch.device) -> list[Level]:
    """The levels of a circuit as tensors on a device, leaves first."""
    found = []
    for nodes, terms, _ in graph.by_level:
        node = graph.parent[terms] - graph.n_leaves - 1 - nodes.start
        tensors = [torch.from_numpy(part).to(device) for part in (graph.left[terms], graph.right[terms], node)]
        found.append(Level(nodes.stop - nodes.start, *tensors))
    return found


def log_evidence(levels: list[Level], log_leaves: Tensor) -> Tensor:
    """log Z [batch], differentiable, from the logarithms of all leaves and the constant [batch, leaves + 1]."""
    values, tiny = log_leaves.T, torch.finfo(log_leaves.dtype).tiny
    for level in levels:
        terms = values[level.left] + values[level.right]
        shape = level.n_nodes, terms.shape[1]
        index = level.node[:, None].expand_as(terms)
        largest = terms.detach().new_full(shape, -torch.inf).scatter_reduce(0, index, terms.detach(), "amax")
        shift = largest.masked_fill(largest == -torch.inf, 0.0)
        total = terms.new_zeros(shape).index_add(0, level.node, (terms - shift[level.node]).exp())
        values = torch.cat([values, total.clamp_min(tiny).log() + shift])
    return values[-1]


def torch_levels(graph: Graph, log_label: Tensor) -> Run:
    """By autograd through ``log_evidence``; log_label [batch, leaves of the label]."""
    levels = levels_of(graph, log_label.device)

    def run(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_prior = torch.log_softmax(logits, -1).detach().requires_grad_()
        one = log_label.new_zeros(len(log_label), 1)
        found = log_evidence(levels, torch.cat([log_prior.flatten(1), log_label, one], 1))
        (gradient,) = torch.autograd.grad(found.sum(), log_prior)
        return found.detach(), gradient

    return run


def klay_torch(graph: Graph, log_label: Tensor) -> Run:
    """KLay in torch, logarithms, not compiled: each leaf is a variable whose negation weighs 1."""
    import klay

    circuit = klay.Circuit()
    rows = [circuit.literal_node(row + 1) for row in range(graph.n_leaves)]
    one = circuit.true_node()
    rows.append(one)
    terms = list(zip(graph.left.tolist(), graph.right.tolist(), strict=True))
    for first, last in pairwise(graph.first.tolist()):
        parts = [rows[a] if b == graph.n_leaves else circuit.and_node([rows[a], rows[b]]) for a, b in terms[first:last]]
        rows.append(circuit.or_node(parts) if len(parts) > 1 else parts[0])
    circuit.set_root(rows[-1])
    circuit.remove_unused_nodes()
    return _klay_run(circuit, lambda log_prior: torch.cat([log_prior.flatten(1), log_label], 1), None)


def klay_sdd(path: Path) -> Run:
    """KLay on an .sdd file of bits, as it reads it: no label."""
    import klay

    circuit = klay.Circuit()
    circuit.set_root(circuit.add_sdd_from_file(str(path)))
    return _klay_run(circuit, lambda log_prior: log_prior[..., 1], lambda log_prior: log_prior[..., 0])


def _klay_run(circuit: Any, positive: Callable[[Tensor], Tensor], negative: Callable[[Tensor], Tensor] | None) -> Run:
    module = circuit.to_torch_module(semiring="log", compile=False)

    def run(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_prior = torch.log_softmax(logits, -1).detach().requires_grad_()
        weights = positive(log_prior)
        negated = torch.zeros_like(weights) if negative is None else negative(log_prior)
        found = module(weights, negated).reshape(len(logits), -1)[:, 0]
        (gradient,) = torch.autograd.grad(found.sum(), log_prior)
        return found.detach(), gradient

    return run


def pysdd(path: Path) -> Run:
    """PySDD's weighted model counting of an .sdd file of bits with its .vtree, row by row; without a label."""
    from pysdd.sdd import SddManager, Vtree

    manager = SddManager.from_vtree(Vtree.from_file(str(path.with_suffix(".vtree"))))
    counter = manager.read_sdd_file(str(path).encode()).wmc(log_mode=True)
    n = manager.var_count()

    def run(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_prior = torch.log_softmax(logits.double(), -1)
        found, gradient = torch.empty(len(logits), dtype=torch.float64), torch.empty_like(log_prior)
        for row, weights in enumerate(log_prior):
            literals = array.array("d", [*weights[:, 0].flip(0).tolist(), *weights[:, 1].tolist()])
            counter.set_literal_weights_from_array(literals)
            found[row] = counter.propagate()
            for i in range(n):
                for value, literal in ((0, -i - 1), (1, i + 1)):
                    gradient[row, i, value] = counter.literal_derivative(literal) + weights[i, value] - found[row]
        return found, gradient.exp()

    return run
