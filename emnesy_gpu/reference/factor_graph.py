"""Loopy belief propagation on any factor graph, written to be read.

n hidden symbols have priors p_i = softmax(logits[i]) and factors w_f(z_f) >= 0. Messages between symbol i and factor f
are

    n_{i->f}(v) ~ p_i(v) prod_{g != f} m_{g->i}(v)
    m_{f->i}(v) ~ sum over z_f with z_i = v of w_f(z_f) prod_{j != i} n_{j->f}(z_j)

and beliefs b_i(v) ~ p_i(v) prod_f m_{f->i}(v) approximate p(z_i = v | all factors). They are exact on a tree, after one
sweep from the leaves to the root and back. The evidence is the Bethe approximation (Yedidia, Freeman, Weiss,
"Constructing free-energy approximations", 2005), and exact on a tree:

    log Z = sum_f log Z_f + sum_i log Z_i - sum_{(i, f)} log Z_{if}
    Z_f = sum_{z_f} w_f prod_j n_{j->f}(z_j)   Z_i = sum_v p_i(v) prod_f m_{f->i}(v)   Z_{if} = sum_v n_{i->f} m_{f->i}

A factor of many symbols is a chain of states: with F_j(s) the weight of what leads to state s before symbol j, and
B_j(t) that of what leads on from state t after it, m_j(v) = sum over edges (s, v, t) of F_j(s) w B_j(t). Max-product
has maxima in place of the sums. Everything is computed in float64 and in log space; ``tables`` are
``kernels.factor_graph_tables.Compiled`` as a list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.factor_graph_tables import (
    CHAIN,
    FLOODING,
    PAIR,
    RESIDUAL,
    SERIAL,
    Compiled,
    FactorGraphTables,
    held,
)
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.reference.decimation import decimate
from emnesy_gpu.reference.message_passing import Converged, Update, damped, results, sweep
from emnesy_gpu.reference.residual import sweep_by_residual
from emnesy_gpu.reference.symbols import (
    NEG_INF,
    log_maxima,
    log_normalise,
    log_softmax,
    log_sums,
    result_dtype,
    row_status,
)

Send = Callable[[Tensor, bool], tuple[Tensor, Tensor]]
"""What a factor sends: log n [batch, d, K], whether to maximise -> log m [batch, d, K] of any scale, log Z [batch]."""


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    tables: Sequence[Tensor],
    iterations: int,
    damping: float,
    schedule: str,
    tolerance: float,
    maximise: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Beliefs [batch, n, K], Bethe log evidence, status, sweeps and last change [batch] given that all factors hold.

    logits: [batch, n, K]. label: int64 [batch], 1 or -1, which makes no difference: others are INVALID_LABEL.
    schedule: "serial" renews the factors one after the other in the order of the tables, "flooding" all at once, and
    "residual" each time the one with the largest residual, see ``residual``.
    maximise: run max-product; then beliefs are normalised to sum 1, and the log evidence is 0.

    Messages start uniform; new = (1 - damping) * computed + damping * old. ``change`` is the largest difference in the
    last sweep of a message normalised to sum 1, or the largest residual that is left. Rows stop once it is below the
    tolerance. A factor that no assignment fits, or a symbol without values left, makes the row IMPOSSIBLE: prior
    marginals and log evidence -inf.
    """
    compiled = Compiled.from_list(tables)
    graph = compiled.graph
    log_softmaxed, status = log_softmax(logits), row_status(logits, held(label), 2)
    log_prior = log_softmaxed + graph.unary.log()
    factors = [_factor(compiled, f) for f in range(len(graph.kind))]
    exists = torch.arange(logits.shape[2]) < graph.size[:, None]
    messages = log_normalise(torch.where(exists, 0.0, NEG_INF).double())[graph.variable.long()]
    messages = messages.expand(len(logits), -1, -1)
    model = _Model(log_prior, graph, factors, damping, maximise)
    active = (status == POSSIBLE) & ~(log_prior == NEG_INF).all(-1).any(-1)
    converged = _sweep(model, messages, active, schedule, iterations, tolerance)
    log_belief = log_prior + _products(converged.messages, graph)
    log_evidence = _bethe(model, log_belief, converged.messages) + graph.log_scale + compiled.chains.log_scale
    return results(logits, status, _defined(log_belief), log_evidence, converged, maximise)


def _sweep(
    model: _Model, messages: Tensor, active: Tensor, schedule: str, iterations: int, tolerance: float
) -> Converged:
    order = model.graph.order.tolist()
    if schedule == RESIDUAL and len(messages) > 0:
        rows = [
            sweep_by_residual(partial(_renew_one, row), one, on, model.graph, model.damping, iterations, tolerance)
            for row, one, on in zip(model.rows(), messages.split(1), active.split(1), strict=True)
        ]
        return Converged(*map(torch.cat, zip(*rows, strict=True)))
    turns = [sorted(set(order))] if schedule == FLOODING else [[f] for f in order]
    updates: list[Update] = [partial(_renew, model, turn) for turn in turns]
    return sweep(messages, active, updates, iterations, tolerance)


def search(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], launch: Callable[..., tuple[Tensor, ...]] | None = None
) -> tuple[Tensor, Tensor]:
    """A probable assignment int64 [batch, n] and the status uint8 [batch]: see ``decimation.decimate``.

    logits: [batch, n, K]. launch: belief propagation, by default that of this module.
    """
    # Values that cannot be are not taken where the messages meet a contradiction, either.
    never = Compiled.from_list(tables).graph.unary == 0
    nothing_left = ((logits == NEG_INF) | never).all(-1).any(-1)
    usable = torch.where(nothing_left[:, None, None], logits, logits.masked_fill(never, NEG_INF))

    def propagate(symbols: Tensor, label: Tensor, tables: list[Tensor], *settings: Any) -> tuple[Tensor, ...]:
        iterations, damping, tolerance, maximise = settings
        return (launch or belief_propagation)(symbols, label, tables, iterations, damping, SERIAL, tolerance, maximise)

    z, status = decimate(propagate, usable, held(label), (list(tables),))
    return z, torch.where(nothing_left & (status == POSSIBLE), IMPOSSIBLE, status).to(torch.uint8)


def log_joint(
    logits: Tensor,
    z: Tensor,
    status: Tensor,
    tables: Sequence[Tensor],
    launch: Callable[..., tuple[Tensor, ...]] | None = None,
) -> tuple[Tensor, Tensor]:
    """log p(z) prod_f w_f(z_f) [batch] of assignments int64 [batch, n], and whether all factors hold, bool [batch].

    logits: [batch, n, K]. status: of ``search``; -inf and False for rows that are not POSSIBLE. The product is the
    evidence if nothing but z has a probability. launch: belief propagation, by default that of this module.
    """
    log_prior = torch.log_softmax(logits.to(result_dtype(logits)), -1)
    certain = torch.full_like(log_prior, NEG_INF).scatter_(-1, z[..., None], 0.0)
    results = (launch or belief_propagation)(certain, torch.ones_like(z[:, 0]), tables, 0, 0.0, SERIAL, 0.0, False)
    weight = results[1]
    joint = log_prior.gather(-1, z[..., None]).flatten(1).sum(1) + weight
    possible = status == POSSIBLE
    return joint.masked_fill(~possible, NEG_INF), (weight > NEG_INF) & possible


class _Model(NamedTuple):
    log_prior: Tensor  # [batch, n, K], with unary weights
    graph: FactorGraphTables
    factors: list[Send]
    damping: float
    maximise: bool

    def edges(self, factor: int) -> slice:
        return slice(int(self.graph.first[factor]), int(self.graph.first[factor + 1]))

    def rows(self) -> list[_Model]:
        """The model of each row of the batch."""
        return [self._replace(log_prior=row) for row in self.log_prior.split(1)]


def _products(messages: Tensor, graph: FactorGraphTables) -> Tensor:
    """Log of the product of the messages to each symbol, [batch, n, K]."""
    zeros = messages.new_zeros(len(messages), len(graph.size), messages.shape[2])
    return zeros.index_add(1, graph.variable.long(), messages)


def _messages_to(model: _Model, messages: Tensor, edges: slice) -> tuple[Tensor, Tensor]:
    """Normalised log n [batch, d, K] of some edges, and whether a symbol has no value left, [batch]."""
    rows = []
    for edge in range(edges.start, edges.stop):
        i = int(model.graph.variable[edge])
        incident = model.graph.incident[int(model.graph.incident_first[i]) : int(model.graph.incident_first[i + 1])]
        others = incident[incident != edge].long()
        rows.append(model.log_prior[:, i] + messages[:, others].sum(1))
    log_n = torch.stack(rows, 1)
    return log_normalise(log_n), (log_n == NEG_INF).all(-1).any(-1)


def _renew(model: _Model, turn: list[int], messages: Tensor) -> tuple[Tensor, Tensor]:
    """Messages with those of some factors renewed from the old ones, and whether there is a contradiction."""
    renewed = messages.clone()
    contradiction = torch.zeros(len(messages), dtype=torch.bool)
    for factor in turn:
        edges = model.edges(factor)
        log_n, nothing_left = _messages_to(model, messages, edges)
        log_m, _ = model.factors[factor](log_n, model.maximise)
        contradiction |= nothing_left | (log_m == NEG_INF).all(-1).any(-1)
        renewed[:, edges] = damped(log_normalise(log_m), messages[:, edges], model.damping)
    return renewed, contradiction


def _renew_one(model: _Model, factor: int, messages: Tensor) -> tuple[Tensor, Tensor]:
    return _renew(model, [factor], messages)


def _bethe(model: _Model, log_belief: Tensor, messages: Tensor) -> Tensor:
    """The Bethe log evidence [batch], -inf where any term or symbol has no value left."""
    log_symbols = torch.logsumexp(log_belief, -1)
    total, impossible = log_symbols.sum(1), (log_symbols == NEG_INF).any(1)
    for factor, send in enumerate(model.factors):
        edges = model.edges(factor)
        log_n, nothing_left = _messages_to(model, messages, edges)
        _, log_z = send(log_n, False)
        log_edges = torch.logsumexp(log_n + messages[:, edges], -1)
        impossible |= nothing_left | (log_z == NEG_INF) | (log_edges == NEG_INF).any(1)
        total = total + log_z - log_edges.sum(1)
    return torch.where(impossible, NEG_INF, total)


def _defined(log_belief: Tensor) -> Tensor:
    """Beliefs of symbols without a value left, whose row is impossible, are uniform."""
    return torch.where((log_belief == NEG_INF).all(-1, keepdim=True), 0.0, log_belief)


def _factor(compiled: Compiled, factor: int) -> Send:
    graph = compiled.graph
    which, kind = int(graph.which[factor]), int(graph.kind[factor])
    if kind == PAIR:
        return partial(_send_pair, graph.pairs[which].log())
    arity = int(graph.first[factor + 1] - graph.first[factor])
    if kind == CHAIN:
        return partial(_send_chain, [_layer(compiled.chains, which + j) for j in range(arity)])
    return partial(_send_chain, _parity_layers(arity, which))


def _parity_layers(arity: int, remainder: int) -> list[_Layer]:
    """Two states, the sum so far; the last layer keeps what has the remainder."""
    source, value = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    odd = (source + value) % 2
    step = _Layer(source, value, odd, torch.zeros(4, dtype=torch.float64))
    last = step._replace(target=torch.zeros_like(odd), log_weight=(odd == remainder).double().log())
    return [step] * (arity - 1) + [last]


def _send_pair(log_w: Tensor, log_n: Tensor, maximise: bool) -> tuple[Tensor, Tensor]:
    add = torch.amax if maximise else torch.logsumexp
    first, second = log_n.unbind(1)
    log_m = torch.stack([add(log_w + second[:, None], -1), add(log_w + first[:, :, None], 1)], 1)
    return log_m, add(log_m[:, 0] + first, -1)


class _Layer(NamedTuple):
    """The edges of one symbol: from source under value to target."""

    source: Tensor  # int64 [E]
    value: Tensor  # int64 [E]
    target: Tensor  # int64 [E]
    log_weight: Tensor  # float64 [E]


def _layer(t: AutomatonTables, position: int) -> _Layer:
    """The edges of a position; one of a class of values stands for each of them."""
    index = int(t.layer[position])
    first, classes = t.out_first[index].long(), t.classes[index]
    edges = slice(int(first[0]), int(first[-1]))
    source = torch.repeat_interleave(torch.arange(len(first) - 1), first.diff())
    edge, value = (t.out_class[edges, None] == classes).nonzero(as_tuple=True)
    target, log_weight = t.out_target[edges].long(), t.out_weight[edges].log()
    return _Layer(source[edge], value, target[edge], log_weight[edge])


def _send_chain(layers: list[_Layer], log_n: Tensor, maximise: bool) -> tuple[Tensor, Tensor]:
    add = log_maxima if maximise else log_sums
    size = 1 + max(int(states.max()) for layer in layers for states in (layer.source, layer.target))
    one_state = log_n.new_full((len(log_n), size), NEG_INF)
    one_state[:, 0] = 0.0
    forward = [one_state]
    for j, layer in enumerate(layers):
        along = forward[-1][:, layer.source] + layer.log_weight + log_n[:, j, layer.value]
        forward.append(add(along, layer.target, one_state))
    backward, log_m = one_state, torch.empty_like(log_n)
    for j, layer in reversed(list(enumerate(layers))):
        ahead = backward[:, layer.target] + layer.log_weight
        log_m[:, j] = add(forward[j][:, layer.source] + ahead, layer.value, log_n[:, j])
        backward = add(ahead + log_n[:, j, layer.value], layer.source, one_state)
    return log_m, backward[:, 0]
