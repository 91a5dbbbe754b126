"""Belief propagation on a factor graph one row at a time, in float64 and log space: logits of any size, and maxima.

The recurrence of ``reference.factor_graph``. Tables are flat: entry e K + v of the messages is that of edge e and value
v, a logarithm; messages sum to 1, or, of max-product too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton.graph import LOGARITHMS
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.row_driver import PropagationResults
from emnesy_gpu.kernels.cpu.common.symbol_rows import log_softmax, write_prior
from emnesy_gpu.kernels.cpu.factor_graph.graph import graphs
from emnesy_gpu.kernels.cpu.factor_graph.labels import row_status
from emnesy_gpu.kernels.cpu.factor_graph.residual import new_tree, next_factor, pass_on
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, PAIR, PARITY, RESIDUAL
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


class Workspace(NamedTuple):
    """The arrays of one row, of logarithms."""

    table: np.ndarray  # [n K]: priors with unary weights, later beliefs
    messages: np.ndarray  # [E K]
    renewed: np.ndarray  # [E K]: messages that wait until a sweep is done; the same array if there is no wait
    cavities: np.ndarray  # [arity K]
    fresh: np.ndarray  # [arity K]: messages of one factor, not normalised
    alpha: np.ndarray  # [arity + 1, S]
    beta: np.ndarray  # [2, S]
    classes: np.ndarray  # [C]: of one member
    steps: np.ndarray  # [arity]: changes of the messages of one factor (probabilities)
    tree: np.ndarray  # residuals, see ``residual.new_tree``; none with other schedules


def run(
    tables: Sequence[Tensor],
    options: Options,
    schedule: str,
    logits: np.ndarray,
    label: np.ndarray,
    results: PropagationResults,
) -> int:
    """Belief propagation on float64 logits [batch, n, K]; leaves no row."""
    g, c = graphs(tables, LOGARITHMS)
    n, k, states = g.n, g.n_values, max(2, c.n_states)
    messages = np.empty(g.n_edges * k)
    flooding = schedule == FLOODING
    renewed = np.empty_like(messages) if flooding else messages
    tree = new_tree(g.n_factors) if schedule == RESIDUAL else np.empty(0)
    cavities = np.empty(g.arity * k), np.empty(g.arity * k)
    chain = np.empty((g.arity + 1, states)), np.empty((2, states)), np.empty(c.n_classes + 1)
    work = Workspace(np.empty(n * k), messages, renewed, *cavities, *chain, np.empty(g.arity), tree)
    propagate(logits, label, results, (work, g, c), (options, flooding))
    return 0


@table_function
def add(x, y, maximise):
    """log(exp(x) + exp(y)), or the larger one; both may be -inf."""
    high, low = max(x, y), min(x, y)
    return high if maximise or low == -np.inf else high + math.log1p(math.exp(low - high))


@table_function
def total_of(values, first, size):
    """log of the sum of exp of some numbers."""
    largest = -np.inf
    for v in range(first, first + size):
        largest = max(largest, values[v])
    if largest == -np.inf:
        return largest
    total = 0.0
    for v in range(first, first + size):
        total += math.exp(values[v] - largest)
    return largest + math.log(total)


@table_function
def find_cavity(work, g, edge, row):
    """n of one edge with sum 1 into the cavities; returns whether it has a value left."""
    i, k = item(g.numbers, g.variable + edge), g.n_values
    for v in range(k):
        work.cavities[row + v] = work.table[i * k + v]
    for j in range(item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)):
        other = item(g.numbers, g.incident + j)
        if other != edge:
            for v in range(k):
                work.cavities[row + v] += work.messages[other * k + v]
    total = total_of(work.cavities, row, k)
    for v in range(k):
        work.cavities[row + v] -= total if total > -np.inf else 0.0
    return total > -np.inf


@table_function
def send_pair(work, g, f, maximise):
    """Messages that are not scaled; returns log Z_f."""
    k, table = g.n_values, g.pairs + item(g.numbers, g.which + f) * g.n_values**2
    work.fresh[: 2 * k] = -np.inf
    total = -np.inf
    for v in range(k):
        for u in range(k):
            weight = g.weights[table + v * k + u]
            work.fresh[v] = add(work.fresh[v], weight + work.cavities[k + u], maximise)
            work.fresh[k + u] = add(work.fresh[k + u], weight + work.cavities[v], maximise)
        total = add(total, work.fresh[v] + work.cavities[v], maximise)
    return total


@table_function
def send_parity(work, g, f, maximise):
    """Messages that are not scaled; returns log Z_f. alpha[j, s]: the first j members have a sum s modulo 2."""
    k, arity = g.n_values, item(g.numbers, g.first + f + 1) - item(g.numbers, g.first + f)
    alpha, beta = work.alpha, work.beta
    alpha[0, 0], alpha[0, 1] = 0.0, -np.inf
    for j in range(arity):
        zero, one = work.cavities[j * k], work.cavities[j * k + 1]
        for s in range(2):
            alpha[j + 1, s] = add(alpha[j, s] + zero, alpha[j, 1 - s] + one, maximise)
    wanted = item(g.numbers, g.which + f)
    beta[0, wanted], beta[0, 1 - wanted] = 0.0, -np.inf
    for j in range(arity - 1, -1, -1):
        zero, one = work.cavities[j * k], work.cavities[j * k + 1]
        for v in range(2):
            work.fresh[j * k + v] = add(alpha[j, 0] + beta[0, v], alpha[j, 1] + beta[0, 1 - v], maximise)
        even, odd = beta[0, 0], beta[0, 1]
        beta[0, 0], beta[0, 1] = add(even + zero, odd + one, maximise), add(odd + zero, even + one, maximise)
    return alpha[arity, wanted]


@table_function
def find_classes(work, g, c, j, layer, maximise):
    """log n of member j for each class of values."""
    work.classes[:] = -np.inf
    for v in range(g.n_values):
        klass = item(c.numbers, c.classes + layer * c.n_values + v)
        work.classes[klass] = add(work.classes[klass], work.cavities[j * g.n_values + v], maximise)


@table_function
def send_chain(work, g, c, f, maximise):
    """Messages that are not scaled; returns log Z_f."""
    arity = item(g.numbers, g.first + f + 1) - item(g.numbers, g.first + f)
    alpha, beta, position = work.alpha, work.beta, item(g.numbers, g.which + f)
    alpha[: arity + 1] = -np.inf
    alpha[0, 0] = 0.0
    for j in range(arity):
        layer = item(c.numbers, c.layer + position + j)
        find_classes(work, g, c, j, layer, maximise)
        for s in range(item(c.numbers, c.before + layer)):
            first = c.out_first + layer * (c.n_states + 1) + s
            for e in range(item(c.numbers, first), item(c.numbers, first + 1)):
                along = alpha[j, s] + c.weights[c.out_weight + e] + work.classes[item(c.numbers, c.out_class + e)]
                t = item(c.numbers, c.out_target + e)
                alpha[j + 1, t] = add(alpha[j + 1, t], along, maximise)
    beta[0, 0] = 0.0
    for j in range(arity - 1, -1, -1):
        layer = item(c.numbers, c.layer + position + j)
        find_classes(work, g, c, j, layer, maximise)
        chain_back(work, g, c, j, layer, maximise)
        for s in range(item(c.numbers, c.before + layer)):
            beta[0, s] = beta[1, s]
    return beta[0, 0]


@table_function
def chain_back(work, g, c, j, layer, maximise):
    """The message to member j, and beta[1] before it from beta[0] after it."""
    k, alpha, beta = g.n_values, work.alpha, work.beta
    own = work.fresh[j * k : (j + 1) * k]
    own[:] = -np.inf
    beta[1] = -np.inf
    for s in range(item(c.numbers, c.before + layer)):
        first = c.out_first + layer * (c.n_states + 1) + s
        for e in range(item(c.numbers, first), item(c.numbers, first + 1)):
            klass = item(c.numbers, c.out_class + e)
            ahead = c.weights[c.out_weight + e] + beta[0, item(c.numbers, c.out_target + e)]
            beta[1, s] = add(beta[1, s], ahead + work.classes[klass], maximise)
            for v in range(k):
                if item(c.numbers, c.classes + layer * c.n_values + v) == klass:
                    own[v] = add(own[v], alpha[j, s] + ahead, maximise)


@table_function
def send(work, g, c, f, maximise):
    """Cavities and messages of a factor; returns log Z_f, and whether every cavity has a value left."""
    first, exists = item(g.numbers, g.first + f), True
    for edge in range(first, item(g.numbers, g.first + f + 1)):
        exists &= find_cavity(work, g, edge, (edge - first) * g.n_values)
    kind = item(g.numbers, g.kind + f)
    if kind <= PAIR:  # also PAIR_OF_BITS
        return send_pair(work, g, f, maximise), exists
    if kind == PARITY:
        work.fresh[:] = -np.inf
        return send_parity(work, g, f, maximise), exists
    return send_chain(work, g, c, f, maximise), exists


@table_function
def renew(work, g, c, options, f):
    """The largest change of a message of a factor (a probability), and whether there is no contradiction."""
    k, change, first = g.n_values, 0.0, item(g.numbers, g.first + f)
    _, exists = send(work, g, c, f, options.maximise)
    for edge in range(first, item(g.numbers, g.first + f + 1)):
        row, step = (edge - first) * k, 0.0
        total = total_of(work.fresh, row, k)
        if not exists or total == -np.inf:
            return change, False
        for v in range(k):
            new, old = work.fresh[row + v] - total, work.messages[edge * k + v]
            if options.damping > 0.0:
                new = add(new + math.log1p(-options.damping), old + math.log(options.damping), False)
            step = max(step, abs(math.exp(new) - math.exp(old)))
            work.renewed[edge * k + v] = new
        work.steps[edge - first] = step
        change = max(change, step)
    return change, True


@table_function
def sweep(work, g, c, options, flooding, first):
    """The largest change of a message (a probability), and whether there is no contradiction.

    first: whether it is the first sweep of the row.
    """
    k, change, by_residual = g.n_values, 0.0, len(work.tree) > 0
    n_updates = g.n_factors if flooding else g.n_updates
    for u in range(n_updates):
        f = item(g.numbers, (g.flooding if flooding else g.order) + u)
        if by_residual and not first:
            f = next_factor(work.tree)
        step, exists = renew(work, g, c, options, f)
        if not exists:
            return change, False
        change = max(change, step)
        if by_residual:
            pass_on(g, work.tree, work.steps, f, options.damping)
    if by_residual:
        change = max(change, work.tree[1])
    for entry in range(g.n_edges * k if flooding else 0):
        work.messages[entry] = work.renewed[entry]
    return change, True


@table_function
def bethe(work, g, c):
    """The Bethe log evidence, and beliefs in the table; -inf where one of its terms has nothing left."""
    k, total = g.n_values, 0.0
    for f in range(g.n_factors):
        log_z, exists = send(work, g, c, f, False)
        if not exists or log_z == -np.inf:
            return -np.inf
        total += log_z
        first = item(g.numbers, g.first + f)
        for edge in range(first, item(g.numbers, g.first + f + 1)):
            row = (edge - first) * k
            for v in range(k):
                work.cavities[row + v] += work.messages[edge * k + v]
            log_edge = total_of(work.cavities, row, k)
            if log_edge == -np.inf:
                return -np.inf
            total -= log_edge
    for edge in range(g.n_edges):
        i = item(g.numbers, g.variable + edge)
        for v in range(k):
            work.table[i * k + v] += work.messages[edge * k + v]
    for i in range(g.n):
        log_symbol = total_of(work.table, i * k, k)
        if log_symbol == -np.inf:
            return -np.inf
        total += log_symbol
        for v in range(k):
            work.table[i * k + v] -= log_symbol
    return total


@table_function
def start(work, g):
    """Unary weights into the table, and uniform messages; returns whether each symbol has a value left."""
    k, exists = g.n_values, True
    for i in range(g.n):
        largest = -np.inf
        for v in range(k):
            work.table[i * k + v] += g.weights[g.unary + i * k + v]
            largest = max(largest, work.table[i * k + v])
        exists &= largest > -np.inf
    for edge in range(g.n_edges):
        size = item(g.numbers, g.size + item(g.numbers, g.variable + edge))
        for v in range(k):
            work.messages[edge * k + v] = -math.log(size) if v < size else -np.inf
    return exists


@table_function
def run_row(work, g, c, options, flooding):
    """Log evidence (-inf: impossible), sweeps and the last change; beliefs are left in the table."""
    sweeps, change = 0, 0.0
    work.tree[:] = 0.0
    exists = start(work, g)
    while exists and sweeps < options.iterations:
        change, exists = sweep(work, g, c, options, flooding, sweeps == 0)
        sweeps += 1
        if change < options.tolerance:
            break
    log_evidence = bethe(work, g, c) if exists else -np.inf
    if log_evidence == -np.inf:
        return log_evidence, 0, 0.0
    return (0.0 if options.maximise else log_evidence + g.log_scale + c.log_scale), sweeps, change


@kernel
def propagate(logits, label, results, model, settings):
    """Every row in turn; those that are not possible get the prior."""
    (work, g, c), (options, flooding) = model, settings
    for row in range(len(logits)):
        if options.stopped[0]:
            return
        code = row_status(logits[row], label[row])
        log_softmax(logits[row], work.table)
        numbers = -np.inf, 0, 0.0
        if code == POSSIBLE:
            numbers = run_row(work, g, c, options, flooding)
            if numbers[0] == -np.inf:
                code = IMPOSSIBLE
                log_softmax(logits[row], work.table)
        write_prior(work.table, results.marginals[row])
        results.status[row] = code
        results.log_evidence[row], results.sweeps[row], results.change[row] = numbers
