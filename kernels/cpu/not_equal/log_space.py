"""Belief propagation with not-equal factors one row at a time, in float64 and log space: logits of any size.

The recurrence of ``probabilities`` on logarithms; messages sum to 1, and incoming message s of symbol i starts at entry
(i D + s) K. A sum is log(e^x + e^y) = max + log1p(e^(min - max)), whose exponential never exceeds 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.row_driver import PropagationResults
from emnesy_gpu.kernels.cpu.common.symbol_rows import log_softmax, row_status, write_prior
from emnesy_gpu.kernels.cpu.not_equal.graph import Graph
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


class Workspace(NamedTuple):
    """The scratch arrays of one row, of logarithms."""

    table: np.ndarray  # [N K]: log priors, later beliefs
    incoming: np.ndarray  # [N D K]: messages
    renewed: np.ndarray  # [N D K]: messages that wait until their phase is done
    cavity: np.ndarray  # [K]: q of a symbol without one of its messages
    other: np.ndarray  # [K]: the same of its neighbour
    message: np.ndarray  # [K]


def run(graph: Graph, options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults) -> int:
    """Belief propagation on float64 logits [batch, N, K]; leaves no row."""
    _, n, k = logits.shape
    sizes = n * k, graph.neighbours.size * k, graph.neighbours.size * k, k, k, k
    propagate(logits, label, results, graph, options, Workspace(*map(np.empty, sizes)))
    return 0


@lane_function
def log_add(x, y):
    """log(exp(x) + exp(y)); both may be -inf."""
    high, low = max(x, y), min(x, y)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@lane_function
def normalise(values):
    """Logs of weights to logs of probabilities; the log of their sum, -inf where nothing is left."""
    total = -np.inf
    for value in values:
        total = log_add(total, value)
    if total > -np.inf:
        for v in range(len(values)):
            values[v] -= total
    return total


@lane_function
def cavity_of(table, incoming, width, degree, i, without, out):
    """log q of symbol i without one of its messages, normalised; without = degree: its belief. Returns the log sum."""
    k = len(out)
    for v in range(k):
        total = table[i * k + v]
        for s in range(degree):
            if s != without:
                total += incoming[(i * width + s) * k + v]
        out[v] = total
    return normalise(out)


@lane_function
def others_of(cavity, maximise, out):
    """log of the sum, or the maximum, over the other values; not normalised."""
    left = -np.inf
    for v in range(len(cavity)):
        out[v] = left
        left = max(left, cavity[v]) if maximise else log_add(left, cavity[v])
    right = -np.inf
    for v in range(len(cavity) - 1, -1, -1):
        out[v] = max(out[v], right) if maximise else log_add(out[v], right)
        right = max(right, cavity[v]) if maximise else log_add(right, cavity[v])


@lane_function
def update(workspace, graph, i, damping, maximise):
    """All messages from symbol i; their largest change, and whether they exist."""
    table, incoming, renewed, cavity, _, message = workspace
    k, width, degree = len(cavity), graph.neighbours.shape[1], graph.degree[i]
    largest = 0.0
    for s in range(degree):
        if cavity_of(table, incoming, width, degree, i, s, cavity) == -np.inf:
            return largest, False
        others_of(cavity, maximise, message)
        if normalise(message) == -np.inf:
            return largest, False
        target = (graph.neighbours[i, s] * width + graph.reverse[i, s]) * k
        for v in range(k):
            old, new = incoming[target + v], message[v]
            if damping > 0.0:
                new = log_add(new + math.log1p(-damping), old + math.log(damping))
            renewed[target + v] = new
            largest = max(largest, abs(math.exp(new) - math.exp(old)))
    return largest, True


@lane_function
def sweep(workspace, graph, options):
    """The largest change of one update of all symbols, and whether nothing contradicts."""
    incoming, renewed = workspace.incoming, workspace.renewed
    k, width = len(workspace.cavity), graph.neighbours.shape[1]
    largest, first = 0.0, 0
    for last in graph.ends:
        for i in graph.order[first:last]:
            step, exists = update(workspace, graph, i, options.damping, options.maximise)
            if not exists:
                return largest, False
            largest = max(largest, step)
        for i in graph.order[first:last]:
            for s in range(graph.degree[i]):
                target = (graph.neighbours[i, s] * width + graph.reverse[i, s]) * k
                incoming[target : target + k] = renewed[target : target + k]
        first = last
    return largest, True


@lane_function
def inner_product(left, right):
    """log of the sum of exp(left[v] + right[v])."""
    total = -np.inf
    for v in range(len(left)):
        total = log_add(total, left[v] + right[v])
    return total


@lane_function
def bethe(workspace, graph):
    """The Bethe log evidence; -inf where one of its terms has nothing left."""
    table, incoming, _, cavity, other, message = workspace
    k, width = len(cavity), graph.neighbours.shape[1]
    total = 0.0
    for i in range(len(graph.degree)):
        log_belief = cavity_of(table, incoming, width, graph.degree[i], i, graph.degree[i], cavity)
        if log_belief == -np.inf:
            return log_belief
        total += log_belief
        for s in range(graph.degree[i]):
            cavity_of(table, incoming, width, graph.degree[i], i, s, cavity)
            start = (i * width + s) * k
            total -= inner_product(cavity, incoming[start : start + k])
            j = graph.neighbours[i, s]
            if j > i:
                cavity_of(table, incoming, width, graph.degree[j], j, graph.reverse[i, s], other)
                others_of(cavity, False, message)
                log_edge = inner_product(message, other)
                if log_edge == -np.inf:
                    return log_edge
                total += log_edge
    return total


@lane_function
def run_row(workspace, graph, options):
    """Log evidence (-inf: impossible), sweeps and the last change; beliefs are left in the table."""
    table, incoming, cavity = workspace.table, workspace.incoming, workspace.cavity
    k, width = len(cavity), graph.neighbours.shape[1]
    incoming[:] = -math.log(k)
    sweeps, change = 0, 0.0
    while sweeps < options.iterations:
        change, exists = sweep(workspace, graph, options)
        if not exists:
            return -np.inf, 0, 0.0
        sweeps += 1
        if options.stopped[0] or change < options.tolerance:
            break
    log_evidence = bethe(workspace, graph)
    if log_evidence == -np.inf:
        return log_evidence, 0, 0.0
    for i in range(len(graph.degree)):
        cavity_of(table, incoming, width, graph.degree[i], i, graph.degree[i], cavity)
        table[i * k : (i + 1) * k] = cavity
    return (0.0 if options.maximise else log_evidence), sweeps, change


@kernel
def propagate(logits, label, results, graph, options, workspace):
    """Every row in turn; those that are not possible get the prior."""
    marginals, log_evidence, status, sweeps, change = results
    table = workspace.table
    for row in range(len(logits)):
        code = row_status(logits[row], label[row])
        log_softmax(logits[row], table)
        numbers = -np.inf, 0, 0.0
        if code == POSSIBLE:
            numbers = run_row(workspace, graph, options)
            if numbers[0] == -np.inf:
                code = IMPOSSIBLE
                log_softmax(logits[row], table)
        write_prior(table, marginals[row])
        log_evidence[row], sweeps[row], change[row] = numbers
        status[row] = code
