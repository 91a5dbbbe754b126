"""What the factors of a graph say about given assignments."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.factor_graph_tables import CHAIN, PAIR, PARITY, Compiled, FactorGraphTables


class Weights(NamedTuple):
    """A graph where the assignments are, and on the host, where its structure is read: nobody waits for a device."""

    there: Compiled
    host: Compiled


def log_weight(z: Tensor, weights: Weights) -> Tensor:
    """The log of the product of all factors, float64 [...], of assignments int64 [..., n]."""
    graph, chains = weights.there
    unary = graph.unary.log().expand(*z.shape, -1).gather(-1, z[..., None]).flatten(-2).sum(-1)
    scale = graph.log_scale + chains.log_scale
    return log_factors(z, weights).sum(-1) + unary + scale


def count_held(z: Tensor, weights: Weights) -> Tensor:
    """How many factors of z [..., n] have a weight above 0, int64 [...]; those of one variable count as one."""
    unary = weights.there.graph.unary.expand(*z.shape, -1).gather(-1, z[..., None])
    return (log_factors(z, weights) > float("-inf")).sum(-1) + (unary > 0).flatten(-2).all(-1)


def log_factors(z: Tensor, weights: Weights) -> Tensor:
    """The log weight of every factor of two variables or more, float64 [..., F], less that of its largest entry."""
    graph, kinds = weights.there.graph, weights.host.graph.kind.tolist()
    first, which = weights.host.graph.first.tolist(), weights.host.graph.which.tolist()
    variable = graph.variable.long()
    found = z.new_zeros((*z.shape[:-1], len(kinds)), dtype=torch.float64)
    if len(graph.pairs):
        found = found + _of_pairs(z, graph)
    for f, kind in enumerate(kinds):
        members = z[..., variable[first[f] : first[f + 1]]] if kind != PAIR else z
        if kind == PARITY:
            found[..., f] = torch.where(members.sum(-1) % 2 == which[f], 0.0, float("-inf")).double()
        if kind == CHAIN:
            found[..., f] = _of_chain(members, weights, which[f])
    return found


def _of_pairs(z: Tensor, graph: FactorGraphTables) -> Tensor:
    """The log weight of the factors that are pairs, 0 of others: float64 [..., F]."""
    first, variable, is_pair = graph.first[:-1].long(), graph.variable.long(), graph.kind == PAIR
    table = torch.where(is_pair, graph.which, 0).long()
    one, other = z[..., variable[first]], z[..., variable[first + 1]]
    return torch.where(is_pair, graph.pairs[table, one, other], 1.0).log()


def _of_chain(z: Tensor, weights: Weights, position: int) -> Tensor:
    """The log weight of all paths that read z [..., d]; rescaled at every step, so that nothing underflows."""
    chains, host = weights.there.chains, weights.host.chains
    weight = z.new_zeros((*z.shape[:-1], len(chains.start)), dtype=torch.float64)
    weight[..., 0] = 1.0
    log_scale = torch.zeros_like(weight[..., 0])
    for j in range(z.shape[-1]):
        layer = int(host.layer[position + j])
        begin, end = int(host.out_first[layer, 0]), int(host.out_first[layer, -1])
        edges = slice(begin, end)
        states = torch.arange(len(chains.start), device=z.device)
        source = torch.repeat_interleave(states, chains.out_first[layer].diff(), output_size=end - begin)
        value_class = chains.classes[layer].long()[z[..., j]]
        taken = (value_class[..., None] == chains.out_class[edges]) * chains.out_weight[edges]
        along = weight[..., source] * taken
        weight = torch.zeros_like(weight).index_add_(-1, chains.out_target[edges].long(), along)
        largest = weight.amax(-1, keepdim=True)
        log_scale += largest[..., 0].log()
        weight = weight / torch.where(largest > 0, largest, 1.0)
    return log_scale
