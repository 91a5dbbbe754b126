"""Loopy belief propagation with pairwise not-equal factors, written to be read.

N hidden symbols with priors p_i = softmax(logits[i]) over the same K values; neighbours in a graph must differ. With
the cavity distribution of i towards its neighbour j, and the message from i to j,

    q_{i->j}(v) ~ p_i(v) prod_{l in N(i), l != j} m_{l->i}(v)          m_{i->j}(v) ~ sum_{u != v} q_{i->j}(u)

beliefs b_i(v) ~ p_i(v) prod_l m_{l->i}(v) approximate p(z_i = v | all neighbours differ); they are exact on trees. A
weaker approximation than all-different factors where the neighbours are cliques, for any number of values. The
evidence is the Bethe approximation (Yedidia, Freeman, Weiss, "Constructing free-energy approximations", 2005).
Max-product has maxima in place of the sums. Everything is computed in float64 and in log space.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.reference.message_passing import damped, results, sweep
from emnesy_gpu.reference.symbols import NEG_INF, log_normalise, log_softmax, row_status


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    neighbours: Tensor,
    reverse: Tensor,
    order: Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Beliefs [batch, N, K], Bethe log evidence, status, sweeps and last change [batch] given "all neighbours differ".

    logits: [batch, N, K]. label: int64 [batch], 0 or 1 (0 makes no difference here).
    neighbours: int32 [N, D], padded with -1. reverse: int32 [N, D], the slot of i in the row of neighbours[i, s].
    order: int32 [N], the symbols in the order of their updates. phases: numbers of symbols that are updated at once.
    maximise: run max-product; then beliefs are normalised to sum 1, and the log evidence is 0.

    The update of a symbol renews its outgoing messages from its incoming messages before the phase. Messages start
    uniform; new = (1 - damping) * computed + damping * old. ``change`` is the largest difference in the last sweep of a
    message normalised to sum 1. Rows stop once it is below the tolerance.

    A symbol without values left, or two neighbours with nothing but the same value, make the row IMPOSSIBLE: prior
    marginals and log evidence -inf.
    """
    log_prior, status = log_softmax(logits), row_status(logits, label, 2)
    neighbours, reverse = neighbours.long(), reverse.long()
    # incoming[i, s] is the message from neighbours[i, s] to i, a message of ones where there is no neighbour.
    incoming = logits.new_zeros(len(logits), *neighbours.shape, logits.shape[2], dtype=torch.float64).log_softmax(-1)
    incoming = torch.where((neighbours >= 0)[..., None], incoming, 0.0)
    updates = [
        partial(renew, log_prior, neighbours, reverse, symbols, damping, maximise)
        for symbols in torch.split(order.long(), phases)
    ]
    converged = sweep(incoming, status == POSSIBLE, updates, iterations, tolerance)
    log_belief = log_prior + converged.messages.sum(2)
    log_evidence = bethe(log_prior, log_belief, converged.messages, neighbours, reverse)
    return results(logits, status, log_belief, log_evidence, converged, maximise)


def cavities(log_prior: Tensor, incoming: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised log q [..., N, D, K] towards each neighbour, and whether no value is left, bool [..., N, D]."""
    before, after = torch.zeros_like(incoming), torch.zeros_like(incoming)
    degree = incoming.shape[-2]
    for s in range(1, degree):
        before[..., s, :] = before[..., s - 1, :] + incoming[..., s - 1, :]
        after[..., degree - 1 - s, :] = after[..., degree - s, :] + incoming[..., degree - s, :]
    log_q = log_prior[..., None, :] + before + after
    return log_normalise(log_q), (log_q == NEG_INF).all(-1)


def of_other_values(log_q: Tensor, maximise: bool) -> Tensor:
    """The sum over the other values, log sum_{u != v} q(u), or their maximum, for every v: [..., K]."""
    k = log_q.shape[-1]
    others = log_q[..., None, :].masked_fill(torch.eye(k, dtype=torch.bool, device=log_q.device), NEG_INF)
    return others.amax(-1) if maximise else torch.logsumexp(others, -1)


def renew(
    log_prior: Tensor,
    neighbours: Tensor,
    reverse: Tensor,
    symbols: Tensor,
    damping: float,
    maximise: bool,
    incoming: Tensor,
) -> tuple[Tensor, Tensor]:
    """Incoming messages with those from some symbols renewed, and whether there is a contradiction, bool [batch]."""
    log_q, nothing_left = cavities(log_prior[:, symbols], incoming[:, symbols])
    log_message = of_other_values(log_q, maximise)
    linked = neighbours[symbols] >= 0
    nothing_left |= (log_message == NEG_INF).all(-1)
    contradiction = (nothing_left & linked).flatten(1).any(1)
    target, slot = neighbours[symbols][linked], reverse[symbols][linked]
    renewed = incoming.clone()
    old = incoming[:, target, slot]
    renewed[:, target, slot] = damped(log_normalise(log_message[:, linked]), old, damping)
    return renewed, contradiction


def bethe(log_prior: Tensor, log_belief: Tensor, incoming: Tensor, neighbours: Tensor, reverse: Tensor) -> Tensor:
    """The Bethe log evidence [batch], -inf where any term or symbol has no value left.

    It is the sum over edges of log sum_{u != v} q_{i->j}(u) q_{j->i}(v),
    plus sum_i log sum_v p_i(v) prod_l m_{l->i}(v),
    minus the sum over directed edges j -> i of log sum_v q_{i->j}(v) m_{j->i}(v).
    """
    log_q, nothing_left = cavities(log_prior, incoming)
    linked = neighbours >= 0
    contradiction = (nothing_left & linked).flatten(1).any(1)
    opposite = log_q[:, neighbours.clamp(min=0), reverse.clamp(min=0)]
    log_edges = torch.logsumexp(of_other_values(log_q, maximise=False) + opposite, -1)
    once = neighbours > torch.arange(len(neighbours), device=neighbours.device)[:, None]
    log_edges = torch.where(once, log_edges, 0.0).flatten(1).sum(1)
    log_symbols = torch.logsumexp(log_belief, -1).sum(1)
    log_links = torch.where(linked, torch.logsumexp(log_q + incoming, -1), 0.0).flatten(1).sum(1)
    contradiction |= (torch.stack([log_edges, log_symbols, log_links]) == NEG_INF).any(0)
    return torch.where(contradiction, NEG_INF, log_edges + log_symbols - log_links)
