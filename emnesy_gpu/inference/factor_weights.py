"""What the factors of a graph say about given assignments."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.factor_graph_tables import CHAIN, PAIR, PARITY, Compiled


def log_weight(z: Tensor, compiled: Compiled) -> Tensor:
    """The log of the product of all factors, float64 [...], of assignments int64 [..., n]."""
    graph, chains = compiled
    unary = graph.unary.log().expand(*z.shape, -1).gather(-1, z[..., None]).flatten(-2).sum(-1)
    scale = graph.log_scale + chains.log_scale
    return log_factors(z, compiled).sum(-1) + unary + scale


def count_held(z: Tensor, compiled: Compiled) -> Tensor:
    """How many factors of z [..., n] have a weight above 0, int64 [...]; those of one variable count as one."""
    unary = compiled.graph.unary.expand(*z.shape, -1).gather(-1, z[..., None])
    return (log_factors(z, compiled) > float("-inf")).sum(-1) + (unary > 0).flatten(-2).all(-1)


def log_factors(z: Tensor, compiled: Compiled) -> Tensor:
    """The log weight of every factor of two variables or more, float64 [..., F], less that of its largest entry."""
    graph = compiled.graph
    found = z.new_zeros((*z.shape[:-1], len(graph.kind)), dtype=torch.float64)
    first, variable, which = graph.first.long(), graph.variable.long(), graph.which.long()
    pairs = (graph.kind == PAIR).nonzero()[:, 0]
    one, other = z[..., variable[first[pairs]]], z[..., variable[first[pairs] + 1]]
    found[..., pairs] = graph.pairs[which[pairs], one, other].log()
    for f in (graph.kind == PARITY).nonzero()[:, 0].tolist():
        odd = z[..., variable[first[f] : first[f + 1]]].sum(-1) % 2
        found[..., f] = torch.where(odd == which[f], 0.0, float("-inf")).double()
    for f in (graph.kind == CHAIN).nonzero()[:, 0].tolist():
        found[..., f] = _of_chain(z[..., variable[first[f] : first[f + 1]]], compiled.chains, int(which[f]))
    return found


def _of_chain(z: Tensor, chains: AutomatonTables, position: int) -> Tensor:
    """The log weight of all paths that read z [..., d]; rescaled at every step, so that nothing underflows."""
    weight = z.new_zeros((*z.shape[:-1], len(chains.start)), dtype=torch.float64)
    weight[..., 0] = 1.0
    log_scale = torch.zeros_like(weight[..., 0])
    for j in range(z.shape[-1]):
        layer = int(chains.layer[position + j])
        first = chains.out_first[layer].long()
        edges = slice(int(first[0]), int(first[-1]))
        source = torch.repeat_interleave(torch.arange(len(first) - 1, device=z.device), first.diff())
        value_class = chains.classes[layer].long()[z[..., j]]
        taken = (value_class[..., None] == chains.out_class[edges]) * chains.out_weight[edges]
        along = weight[..., source] * taken
        weight = torch.zeros_like(weight).index_add_(-1, chains.out_target[edges].long(), along)
        largest = weight.amax(-1, keepdim=True)
        log_scale += largest[..., 0].log()
        weight = weight / torch.where(largest > 0, largest, 1.0)
    return log_scale
