"""Belief propagation with not-equal factors in probabilities of either float type, rows of the batch in lanes.

Notation of ``reference.not_equal``: the message from symbol i through a factor to j is 1 - q_i(v), where q_i is the
product of the prior of i and its messages but that from j. Messages lie in K rows of lanes each, scaled to sum K - 1
so that no entry exceeds 1; incoming message s of symbol i starts at row (i D + s) K. Nothing is ever subtracted, so
the only error beyond rounding is that of products too small for the float type. They are negligible next to others;
a row of the batch in which the largest one of some product is itself so small that they might matter (contradictory
evidence, or none left) is handed back to be computed with a wider range.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lane_scratch import scratch
from emnesy_gpu.kernels.cpu.common.lanes import (
    exponent_of,
    filled,
    load,
    maximum,
    minimum,
    multiply_add,
    power_of_two,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, PropagationResults
from emnesy_gpu.kernels.cpu.common.symbol_rows import exponentials, log_softmax, read_row, row_status, write_prior
from emnesy_gpu.kernels.cpu.not_equal.graph import Graph
from emnesy_gpu.kernels.status import POSSIBLE

LOG_2 = math.log(2.0)
SMALLEST_PRODUCT = {np.float32: 2.0**-40, np.float64: 2.0**-300}
"""What the float type loses would have to come back from more than three such products in a row."""

# Rows of Workspace.counts.
ACTIVE, SWEEPS, CHANGE, LARGEST_STEP, SMALLEST, MANTISSA, EXPONENT, N_COUNTS = range(8)


class Workspace(NamedTuple):
    """The scratch arrays of a block of rows: [rows, lanes], of one float type."""

    prior: np.ndarray  # [N K]: later the beliefs
    incoming: np.ndarray  # [N D K]: messages
    renewed: np.ndarray  # [N D K]: messages that wait until their phase is done
    products: np.ndarray  # [(D + 1) K]: of one symbol, see multiply_prefixes
    cavity: np.ndarray  # [3 K]: of one message: q, sums over the other values, product of the messages behind it
    counts: np.ndarray  # [N_COUNTS]: what each lane counts


def run(graph: Graph, options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults) -> int:
    """Belief propagation in the dtype of the logits [batch, N, K].

    Returns how many rows are left: their status is RECOMPUTE, and the other results are not known.
    """
    _, n, k = logits.shape
    width = graph.neighbours.shape[1]
    dtype = logits.dtype.type
    rows = n * k, n * width * k, n * width * k, (width + 1) * k, 3 * k, N_COUNTS
    workspace = Workspace(*(scratch(size, dtype) for size in rows))
    propagate(logits, label, results, graph, options, SMALLEST_PRODUCT[dtype], workspace)
    return int(np.count_nonzero(results.status == RECOMPUTE))


@lane_function
def multiply_prefixes(prior, incoming, width, degree, i, products):
    """Row s K + v of the products: p_i(v) times the messages to i before the s-th; all of them for s = degree."""
    k = len(products) // (width + 1)
    for v in range(k):
        product = load(prior, i * k + v)
        for s in range(degree):
            store(products, s * k + v, product)
            product *= load(incoming, (i * width + s) * k + v)
        store(products, degree * k + v, product)


@lane_function
def sum_others(cavity, k, maximise):
    """Rows k .. 2 k - 1: the sum, or the maximum, of the other values of rows 0 .. k - 1; returns their sum."""
    left = filled(cavity, 0.0)
    for v in range(k):
        store(cavity, k + v, left)
        left = maximum(left, load(cavity, v)) if maximise else left + load(cavity, v)
    right, total = filled(cavity, 0.0), filled(cavity, 0.0)
    for v in range(k - 1, -1, -1):
        others = load(cavity, k + v)
        others = maximum(others, right) if maximise else others + right
        store(cavity, k + v, others)
        total += others
        right = maximum(right, load(cavity, v)) if maximise else right + load(cavity, v)
    return total


@lane_function
def require(counts, value):
    """Remember the smallest of the totals that everything is divided by."""
    store(counts, SMALLEST, minimum(value, load(counts, SMALLEST)))


@lane_function
def update(workspace, renewed, graph, i, damping, maximise):
    """All messages from symbol i, from the incoming ones into the renewed ones."""
    prior, incoming, _, products, cavity, counts = workspace
    width, degree = graph.neighbours.shape[1], graph.degree[i]
    k = len(cavity) // 3
    multiply_prefixes(prior, incoming, width, degree, i, products)
    for v in range(k):
        store(cavity, 2 * k + v, 1.0)
    active, largest = load(counts, ACTIVE), load(counts, LARGEST_STEP)
    for s in range(degree - 1, -1, -1):
        for v in range(k):
            suffix = load(cavity, 2 * k + v)
            store(cavity, v, load(products, s * k + v) * suffix)
            store(cavity, 2 * k + v, suffix * load(incoming, (i * width + s) * k + v))
        total = sum_others(cavity, k, maximise)
        require(counts, total)
        scale = (k - 1.0) * (1.0 - damping) / total
        target = (graph.neighbours[i, s] * width + graph.reverse[i, s]) * k
        for v in range(k):
            old = load(incoming, target + v)
            new = multiply_add(load(cavity, k + v), scale, old * damping)
            new = where_equal(active, 1.0, new, old)
            store(renewed, target + v, new)
            largest = maximum(maximum(new - old, old - new), largest)
    store(counts, LARGEST_STEP, largest)


@lane_function
def move_messages(renewed, incoming, graph, first, last, k):
    """What the symbols first .. last - 1 of the order have sent."""
    width = graph.neighbours.shape[1]
    for i in graph.order[first:last]:
        for s in range(graph.degree[i]):
            target = (graph.neighbours[i, s] * width + graph.reverse[i, s]) * k
            for row in range(target, target + k):
                store(incoming, row, load(renewed, row))


@lane_function
def sweep(workspace, graph, options):
    """One update of all symbols; rows whose messages changed by less than the tolerance become inactive."""
    incoming, renewed, counts = workspace.incoming, workspace.renewed, workspace.counts
    k = len(workspace.cavity) // 3
    store(counts, LARGEST_STEP, 0.0)
    first = 0
    for phase in range(len(graph.ends)):
        last = graph.ends[phase]
        target = renewed if graph.staged[phase] else incoming
        for i in graph.order[first:last]:
            update(workspace, target, graph, i, options.damping, options.maximise)
        if graph.staged[phase]:
            move_messages(renewed, incoming, graph, first, last, k)
        first = last
    active, change = load(counts, ACTIVE), load(counts, LARGEST_STEP) / max(k - 1.0, 1.0)
    store(counts, SWEEPS, load(counts, SWEEPS) + active)
    store(counts, CHANGE, where_equal(active, 1.0, change, load(counts, CHANGE)))
    store(counts, ACTIVE, where_less(change, options.tolerance, 0.0, active))


@lane_function
def multiply_evidence(counts, numerator, denominator):
    """Mantissa and exponent of the evidence, times a ratio of numbers at most about 1."""
    require(counts, numerator)
    require(counts, denominator)
    mantissa = load(counts, MANTISSA) * numerator / denominator
    shift = exponent_of(mantissa)
    store(counts, MANTISSA, mantissa * power_of_two(shift * -1.0))
    store(counts, EXPONENT, load(counts, EXPONENT) + shift)


@lane_function
def send_fresh(workspace, graph):
    """Undamped sum-product messages along all edges into renewed, for the terms of the edges."""
    store(workspace.counts, ACTIVE, 1.0)
    for i in range(len(graph.degree)):
        update(workspace, workspace.renewed, graph, i, 0.0, False)


@lane_function
def bethe(workspace, graph):
    """The evidence, and beliefs in place of the prior. Scales of messages cancel between symbols and links."""
    prior, incoming, renewed, products, cavity, counts = workspace
    width = graph.neighbours.shape[1]
    k = len(cavity) // 3
    send_fresh(workspace, graph)
    for i in range(len(graph.degree)):
        degree = graph.degree[i]
        multiply_prefixes(prior, incoming, width, degree, i, products)
        for v in range(k):
            store(cavity, 2 * k + v, 1.0)
        belief = filled(cavity, 0.0)
        for v in range(k):
            belief += load(products, degree * k + v)
        multiply_evidence(counts, belief, 1.0)
        for v in range(k):
            store(prior, i * k + v, load(products, degree * k + v) / belief)
        for s in range(degree - 1, -1, -1):
            total, link, edge = filled(cavity, 0.0), filled(cavity, 0.0), filled(cavity, 0.0)
            for v in range(k):
                suffix, message = load(cavity, 2 * k + v), load(incoming, (i * width + s) * k + v)
                value = load(products, s * k + v) * suffix
                store(cavity, 2 * k + v, suffix * message)
                total += value
                link = multiply_add(value, message, link)
                edge = multiply_add(value, load(renewed, (i * width + s) * k + v), edge)
            multiply_evidence(counts, total, link)
            if graph.neighbours[i, s] > i:
                multiply_evidence(counts, edge, total)


@lane_function
def start(workspace, logits, first):
    """Priors and uniform messages of the rows from ``first`` on."""
    prior, incoming, _, _, cavity, counts = workspace
    batch, n, k = logits.shape
    for lane in range(prior.shape[1]):
        read_row(logits[min(first + lane, batch - 1)], prior, lane)
    exponentials(prior, n, k, cavity)
    for row in range(len(incoming)):
        store(incoming, row, (k - 1.0) / k)
    store(counts, ACTIVE, 1.0)
    store(counts, SWEEPS, 0.0)
    store(counts, CHANGE, 0.0)
    store(counts, SMALLEST, 1.0)
    store(counts, MANTISSA, 1.0 / load(cavity, 0))
    store(counts, EXPONENT, load(cavity, 1) * -1.0)


@lane_function
def write_row(workspace, lane, logits, code, maximise, marginals):
    """Marginals of one row; returns its log evidence, sweeps and change."""
    prior, counts = workspace.prior, workspace.counts
    n, k = logits.shape
    if code != POSSIBLE:
        table = np.empty(n * k)
        log_softmax(logits, table)
        write_prior(table, marginals)
        return -np.inf, 0.0, 0.0
    for i in range(n):
        for v in range(k):
            marginals[i, v] = prior[i * k + v, lane]
    evidence = math.log(np.float64(counts[MANTISSA, lane])) + counts[EXPONENT, lane] * LOG_2
    return 0.0 if maximise else evidence, np.float64(counts[SWEEPS, lane]), np.float64(counts[CHANGE, lane])


@kernel
def propagate(logits, label, results, graph, options, floor, workspace):
    """So many rows at a time as there are lanes; lanes to spare repeat the last row."""
    marginals, log_evidence, status, sweeps, change = results
    counts = workspace.counts
    lanes = counts.shape[1]
    for first in range(0, len(logits), lanes):
        start(workspace, logits, first)
        for _ in range(options.iterations):
            if not options.stopped[0] and np.any(counts[ACTIVE] > 0.0):
                sweep(workspace, graph, options)
        bethe(workspace, graph)
        for row in range(first, min(first + lanes, len(logits))):
            lane = row - first
            code = row_status(logits[row], label[row])
            status[row] = code
            if code == POSSIBLE and not counts[SMALLEST, lane] >= floor:
                status[row] = RECOMPUTE
                continue
            numbers = write_row(workspace, lane, logits[row], code, options.maximise, marginals[row])
            log_evidence[row], sweeps[row], change[row] = numbers
