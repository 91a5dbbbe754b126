"""Belief propagation with not-equal factors in probabilities, of either float type, boards in lanes.

Notation of ``reference.not_equal``. A message lies in K rows of lanes, scaled to sum K - 1 so that no entry exceeds 1;
incoming message s of symbol i starts at row (i D + s) K. Nothing is ever subtracted, so the only error beyond
rounding is that of products too small for the float type. They are negligible next to others; a row in which the
largest one of some product is itself so small that they might matter (contradictory evidence, or none left) is
handed back to be computed with a wider range.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT32_LANES,
    FLOAT64_LANES,
    exponent_of,
    filled,
    load,
    maximum,
    minimum,
    multiply_add,
    power_of_two,
    scratch,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.symbol_rows import exponentials, log_softmax, read_row, row_status, write_prior
from emnesy_gpu.kernels.cpu.not_equal.graph import RECOMPUTE, Graph
from emnesy_gpu.kernels.status import POSSIBLE

LOG_2 = math.log(2.0)
# What the float type loses would have to come back from more than three such products in a row.
SMALLEST_PRODUCT = {np.float32: 2.0**-40, np.float64: 2.0**-300}
# Rows of the array of what each board counts.
ACTIVE, SWEEPS, CHANGE, LARGEST_STEP, SMALLEST, MANTISSA, EXPONENT, N_COUNTS = range(8)


def run_float32(logits, label, results, graph: Graph, *options) -> None:
    _run(np.float32, FLOAT32_LANES, logits, label, results, graph, *options)


def run_float64(logits, label, results, graph: Graph, *options) -> None:
    _run(np.float64, FLOAT64_LANES, logits, label, results, graph, *options)


def _run(dtype, lanes, logits, label, results, graph: Graph, iterations, damping, tolerance, maximise) -> None:
    _, n, k = logits.shape
    width = graph.neighbours.shape[1]
    rows = n * k, n * width * k, n * width * k, (width + 1) * k, 3 * k, N_COUNTS
    scratches = [scratch(size, dtype) for size in rows]
    floor = SMALLEST_PRODUCT[dtype]
    options = iterations, damping, tolerance, maximise, floor, lanes
    propagate(logits, label, *results, graph, *options, *scratches)


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
def update(prior, incoming, renewed, graph, i, damping, maximise, products, cavity, counts):
    """All messages from symbol i, from the incoming ones into the renewed ones."""
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
def sweep(prior, incoming, renewed, graph, damping, tolerance, maximise, products, cavity, counts):
    """One update of all symbols; boards whose messages changed by less than the tolerance become inactive."""
    k = len(cavity) // 3
    store(counts, LARGEST_STEP, 0.0)
    first = 0
    for phase in range(len(graph.ends)):
        last = graph.ends[phase]
        target = renewed if graph.staged[phase] else incoming
        for i in graph.order[first:last]:
            update(prior, incoming, target, graph, i, damping, maximise, products, cavity, counts)
        if graph.staged[phase]:
            move_messages(renewed, incoming, graph, first, last, k)
        first = last
    active, change = load(counts, ACTIVE), load(counts, LARGEST_STEP) / max(k - 1.0, 1.0)
    store(counts, SWEEPS, load(counts, SWEEPS) + active)
    store(counts, CHANGE, where_equal(active, 1.0, change, load(counts, CHANGE)))
    store(counts, ACTIVE, where_less(change, tolerance, 0.0, active))


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
def send_fresh(prior, incoming, renewed, graph, products, cavity, counts):
    """Undamped sum-product messages along all edges into renewed, for the terms of the edges."""
    store(counts, ACTIVE, 1.0)
    for i in range(len(graph.degree)):
        update(prior, incoming, renewed, graph, i, 0.0, False, products, cavity, counts)


@lane_function
def bethe(prior, incoming, renewed, graph, products, cavity, counts):
    """The evidence, and beliefs in place of the prior. Scales of messages cancel between symbols and links."""
    width = graph.neighbours.shape[1]
    k = len(cavity) // 3
    send_fresh(prior, incoming, renewed, graph, products, cavity, counts)
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
def start(logits, first, graph, prior, incoming, cavity, counts):
    """Priors and uniform messages of the boards from row first on."""
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
def write_row(logits, code, prior, counts, lane, maximise, marginals):
    """Log evidence, sweeps and change of one board."""
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
def propagate(
    logits, label, marginals, log_evidence, status, sweeps, change, graph, iterations, damping, tolerance, maximise,
    floor, lanes, prior, incoming, renewed, products, cavity, counts,
):  # fmt: skip
    """So many rows at a time as there are lanes; lanes to spare repeat the last row."""
    for first in range(0, len(logits), lanes):
        start(logits, first, graph, prior, incoming, cavity, counts)
        for _ in range(iterations):
            if np.any(counts[ACTIVE] > 0.0):
                sweep(prior, incoming, renewed, graph, damping, tolerance, maximise, products, cavity, counts)
        bethe(prior, incoming, renewed, graph, products, cavity, counts)
        for row in range(first, min(first + lanes, len(logits))):
            lane = row - first
            code = row_status(logits[row], label[row])
            status[row] = code
            if code == POSSIBLE and not counts[SMALLEST, lane] >= floor:
                status[row] = RECOMPUTE
                continue
            numbers = write_row(logits[row], code, prior, counts, lane, maximise, marginals[row])
            log_evidence[row], sweeps[row], change[row] = numbers
