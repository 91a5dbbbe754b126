"""Loopy belief propagation with all-different factors, written to be read.

N hidden symbols with priors p_i = softmax(logits[i]) over the same K values; each group of symbols must take
distinct values, as in the rows, columns and boxes of a Sudoku. Messages between symbol i and group f are

    n_{i->f}(v) ~ p_i(v) prod_{g != f} m_{g->i}(v)                               (g: the other groups of i)
    m_{f->i}(v) ~ sum over distinct values z_j != v of the others of prod_j n_{j->f}(z_j)

and beliefs b_i(v) ~ p_i(v) prod_f m_{f->i}(v) approximate p(z_i = v | every group is all different); they are exact
where the groups form a tree. The sums are permanents of minors of the matrix n of a group. A subset S of the values
has weights F(S), the members 0 .. |S| - 1 take the values of S, and G(S), the others take w - |S| further values:

    F(S) = sum_{v in S} F(S - v) n_{|S|-1}(v)        G(S) = sum_{v not in S} n_{|S|}(v) G(S + v)
    m_{f->i}(v) ~ sum_{|S| = i, v not in S} F(S) G(S + v)

which costs K 2^(K-1) operations for each of F, G and m instead of a sum over K! assignments. The evidence is the
Bethe approximation (Yedidia, Freeman, Weiss, "Constructing free-energy approximations", 2005). Max-product has maxima
in place of the sums. Everything is computed in float64 and in log space.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.reference import decimation
from emnesy_gpu.reference.message_passing import Update, damped, results, sweep
from emnesy_gpu.reference.symbols import NEG_INF, log_normalise, log_softmax, row_status

NEGLIGIBLE = -17.0
"""Log probability of label 1 below which label 0 says nothing: exp(-17) is less than the rounding error of float32."""


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    groups: Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Beliefs [batch, N, K], Bethe log evidence, status, sweeps and last change [batch] given "all different".

    logits: [batch, N, K]. label: int64 [batch], 0 or 1.
    groups: int32 [G, W], the symbols of each group, at most K, padded with -1.
    phases: numbers of consecutive groups that are renewed at once.
    maximise: run max-product; then beliefs are normalised to sum 1, and the log evidence is 0.

    A sweep renews the messages of all groups, phase by phase, each from the messages before the phase. Messages start
    uniform; new = (1 - damping) * computed + damping * old. ``change`` is the largest difference in the last sweep of a
    message normalised to sum 1. Rows stop once it is below the tolerance.

    A group that no assignment fits, or a symbol without values left, makes the row IMPOSSIBLE: prior marginals and
    log evidence -inf. Label 0 matters only where a bound of log p(all different) is below NEGLIGIBLE: such a row keeps
    the prior, with log evidence -inf, POSSIBLE, after 0 sweeps.
    """
    log_prior, status = log_softmax(logits), row_status(logits, label, 2)
    graph = factor_graph(groups, logits.shape[1])
    messages = logits.new_zeros(len(logits), *groups.shape, logits.shape[2], dtype=torch.float64).log_softmax(-1)
    negligible = first_phase_is_negligible(log_prior, graph, sum(phases[:1])) & (label == 0) & (status == POSSIBLE)
    if iterations == 0 or maximise:
        negligible = torch.zeros_like(negligible)
    updates = phase_updates(log_prior, graph, phases, damping, maximise)
    converged = sweep(messages, (status == POSSIBLE) & ~negligible, updates, iterations, tolerance)
    log_belief = log_prior + graph.product(converged.messages, graph.incident)
    log_evidence = bethe(log_prior, log_belief, converged.messages, graph).masked_fill(negligible, 0.0)
    outcome = results(logits, status, log_belief, log_evidence, converged, maximise)
    marginals, log_evidence, status, sweeps, change = outcome
    return marginals, log_evidence.masked_fill(negligible, NEG_INF), status, sweeps, change


class FactorGraph(NamedTuple):
    """Indices of symbols and messages; messages are rows of [G * W, K], and index G * W (padding) is a row of ones."""

    members: list[list[int]]
    symbols: Tensor  # [G, W]: members, 0 for padding
    present: Tensor  # [G, W]
    incident: Tensor  # [N, D]: the messages to a symbol
    others: Tensor  # [G, W, D]: those to a member from its other groups

    def product(self, messages: Tensor, index: Tensor) -> Tensor:
        """Log of the product of the messages along the last axis of the index, [batch, ..., K]."""
        return torch.nn.functional.pad(messages.flatten(1, 2), (0, 0, 0, 1))[:, index].sum(-2)


def factor_graph(groups: Tensor, n_symbols: int) -> FactorGraph:
    """The indices of groups int32 [G, W], padded with -1."""
    members = [[i for i in row if i >= 0] for row in groups.tolist()]
    width = groups.shape[1]
    slots: list[list[int]] = [[] for _ in range(n_symbols)]
    for g, group in enumerate(members):
        for s, i in enumerate(group):
            slots[i].append(g * width + s)
    padding = groups.numel()
    degree = max(map(len, slots), default=0)
    padded = [own + [padding] * (degree - len(own)) for own in slots]
    incident = torch.tensor(padded, dtype=torch.int64, device=groups.device)
    symbols = groups.clamp(min=0).long()
    itself = torch.arange(padding, device=groups.device).view(*groups.shape, 1)
    others = incident[symbols].masked_fill(incident[symbols] == itself, padding)
    return FactorGraph(members, symbols, groups >= 0, incident, others)


def messages_to_groups(log_prior: Tensor, messages: Tensor, graph: FactorGraph) -> tuple[Tensor, Tensor]:
    """Normalised log n [batch, G, W, K], and whether a symbol has no value left, bool [batch, G, W]."""
    log_n = log_prior[:, graph.symbols] + graph.product(messages, graph.others)
    nothing_left = (log_n == NEG_INF).all(-1) & graph.present
    return log_normalise(log_n), nothing_left


def phase_updates(
    log_prior: Tensor, graph: FactorGraph, phases: list[int], damping: float, maximise: bool
) -> list[Update]:
    """One update per phase."""
    ends = torch.tensor(phases).cumsum(0).tolist()
    runs = [range(end - size, end) for size, end in zip(phases, ends, strict=True)]
    return [partial(renew, log_prior, graph, run, damping, maximise) for run in runs]


def renew(
    log_prior: Tensor, graph: FactorGraph, run: range, damping: float, maximise: bool, messages: Tensor
) -> tuple[Tensor, Tensor]:
    """Messages with those of a run of groups renewed from the old ones, and whether there is a contradiction."""
    log_n, nothing_left = messages_to_groups(log_prior, messages, graph)
    contradiction = nothing_left[:, run].flatten(1).any(1)
    renewed = messages.clone()
    for alike in by_size(graph, run):
        size = len(graph.members[alike[0]])
        log_permanent, log_minors = permanents(log_n[:, alike, :size], maximise)
        contradiction |= (log_permanent == NEG_INF).any(1)
        old = messages[:, alike, :size]
        renewed[:, alike, :size] = damped(log_normalise(log_minors), old, damping)
    return renewed, contradiction


def by_size(graph: FactorGraph, run: range) -> list[list[int]]:
    """The groups of a run, sorted into lists of equal size."""
    sizes = {len(graph.members[g]) for g in run}
    return [[g for g in run if len(graph.members[g]) == size] for size in sorted(sizes)]


def first_phase_is_negligible(log_prior: Tensor, graph: FactorGraph, n_groups: int) -> Tensor:
    """Whether disjoint groups bound log p(all different) below NEGLIGIBLE, and no group is impossible: bool [batch].

    Groups without common members are independent under the prior, so the product of the probabilities that their
    members differ (permanents of the prior) is an upper bound. Groups are taken in order, unless they overlap an
    earlier one.
    """
    bound = log_prior.new_zeros(len(log_prior))
    impossible = torch.zeros_like(bound, dtype=torch.bool)
    taken: set[int] = set()
    for group in graph.members[:n_groups]:
        log_permanent, _ = permanents(log_prior[:, group], maximise=False)
        impossible |= log_permanent == NEG_INF
        if taken.isdisjoint(group):
            bound += log_permanent
            taken.update(group)
    return (bound < NEGLIGIBLE) & ~impossible


def bethe(log_prior: Tensor, log_belief: Tensor, messages: Tensor, graph: FactorGraph) -> Tensor:
    """The Bethe log evidence [batch], -inf where any term or symbol has no value left.

    It is sum_f log perm(n_{.->f}) + sum_i log sum_v p_i prod_f m_{f->i} - sum_{(i, f)} log sum_v n_{i->f} m_{f->i}.
    """
    log_n, nothing_left = messages_to_groups(log_prior, messages, graph)
    log_factors = log_prior.new_zeros(len(log_prior))
    contradiction = nothing_left.flatten(1).any(1)
    for alike in by_size(graph, range(len(graph.members))):
        log_permanent, _ = permanents(log_n[:, alike, : len(graph.members[alike[0]])], maximise=False)
        log_factors += log_permanent.sum(1)
    log_symbols = torch.logsumexp(log_belief, -1).sum(1)
    log_pairs = torch.where(graph.present, torch.logsumexp(log_n + messages, -1), 0.0).flatten(1).sum(1)
    contradiction |= (torch.stack([log_factors, log_symbols, log_pairs]) == NEG_INF).any(0)
    return torch.where(contradiction, NEG_INF, log_factors + log_symbols - log_pairs)


class Level(NamedTuple):
    """All subsets of l of the K values, in ascending order as bit sets, with indices into the neighbouring levels."""

    smaller: Tensor  # [subsets, l]: the index of S - v in the level below, for each v in S
    removed: Tensor  # [subsets, l]: that v
    larger: Tensor  # [subsets, K - l]: the index of S + v in the level above, for each v not in S
    added: Tensor  # [subsets, K - l]: that v
    without: Tensor  # [K, C(K - 1, l)]: the indices of all S with v not in S
    including: Tensor  # [K, C(K - 1, l)]: the indices of these S + v in the level above


@cache
def levels(n_values: int) -> list[Level]:
    """The levels l = 0 .. n_values."""
    values = range(n_values)
    subsets = [
        sorted(sum(1 << v for v in chosen) for chosen in combinations(values, size)) for size in range(n_values + 1)
    ]
    index = {subset: i for level in subsets for i, subset in enumerate(level)}

    def table(rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64)

    return [
        Level(
            table([[index[s ^ 1 << v] for v in values if s >> v & 1] for s in level]),
            table([[v for v in values if s >> v & 1] for s in level]),
            table([[index[s | 1 << v] for v in values if not s >> v & 1] for s in level]),
            table([[v for v in values if not s >> v & 1] for s in level]),
            table([[index[s] for s in level if not s >> v & 1] for v in values]),
            table([[index[s | 1 << v] for s in level if not s >> v & 1] for v in values]),
        )
        for level in subsets
    ]


def permanents(log_n: Tensor, maximise: bool) -> tuple[Tensor, Tensor]:
    """Log permanent [...] of log n [..., w, K], and unnormalised log m [..., w, K] of every member and value."""
    size, n_values = log_n.shape[-2:]
    add = torch.amax if maximise else torch.logsumexp
    level = levels(n_values)
    forward = [log_n.new_zeros(*log_n.shape[:-2], 1)]
    for rank in range(1, size + 1):
        terms = forward[-1][..., level[rank].smaller] + log_n[..., rank - 1, level[rank].removed]
        forward.append(add(terms, -1))
    backward = torch.zeros_like(forward[size])
    log_minors = torch.empty_like(log_n)
    for rank in range(size - 1, -1, -1):
        terms = forward[rank][..., level[rank].without] + backward[..., level[rank].including]
        log_minors[..., rank, :] = add(terms, -1)
        backward = add(backward[..., level[rank].larger] + log_n[..., rank, level[rank].added], -1)
    return add(forward[size], -1), log_minors


def decimate(logits: Tensor, label: Tensor, groups: Tensor, phases: list[int]) -> tuple[Tensor, Tensor]:
    """A probable valid assignment int64 [batch, N] and the status uint8 [batch]: see ``decimation.decimate``."""
    return decimation.decimate(belief_propagation, logits, label, (groups, phases))
