"""Loopy belief propagation with all-different factors in plain probabilities, with a guard against underflow.

Rows of the batch lie in lanes, numbers in the rows of one scratch array (``Layout``), float32 or float64. Factors with
fewer members than values are padded with members that take any value, which multiplies permanents by (side - w)!.
Messages from factors sum to n_values, so that uniform ones change nothing.

Rows of the matrix have largest entry 1, so sums cannot overflow, and entries below the smallest normal number
are lost. Rows of the batch where that could matter, because a permanent or a product of messages is below a floor
(``floor_of``), are handed back (``RECOMPUTE``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.all_different.blocks import MaxProduct, SumProduct
from emnesy_gpu.kernels.cpu.all_different.graph import Graph, layout, log_free, rows_of
from emnesy_gpu.kernels.cpu.all_different.rows import (
    any_lane,
    free_placements,
    read_logits,
    row_of,
    stop_negligible,
    write_marginals,
)
from emnesy_gpu.kernels.cpu.all_different.subsets import minors_of, permanent_of
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lanes import (
    exp_nonpositive,
    exponent_of,
    filled,
    load,
    maximum,
    multiply_add,
    power_of_two,
    scratch,
    store,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, PropagationResults
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE

LOG_2 = math.log(2.0)
CEILING = 1e30
"""Products of messages above this go to the other arithmetic, long before they overflow."""

TOLERANCE = 1e-6
"""The share of a permanent or a message that may be missing."""


class Settings(NamedTuple):
    """What is the same for all rows of the batch."""

    options: Options
    semiring: SumProduct | MaxProduct
    floor: float  # of permanents and products of messages
    log_free: float  # log of the number of ways to place the members that pad the factors


class Workspace(NamedTuple):
    """The scratch arrays of a block of rows, [rows, lanes] in the dtype of the logits."""

    numbers: np.ndarray  # rows as in Layout
    subsets: np.ndarray  # [2^(side - 1), lanes]: a number for half the lanes of each subset


def floor_of(side: int, dtype: type) -> float:
    """What permanents and products of messages must not be less than.

    side^2 lost entries with minors up to (side - 1)! are missing from a permanent, and as a share of a message side
    times as much over the permanent, which counts once more over the product of messages it enters.
    """
    smallest_normal = float(np.finfo(dtype).smallest_normal)
    return math.sqrt(side**3 * math.factorial(side - 1) * smallest_normal / TOLERANCE)


def run(graph: Graph, options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults) -> int:
    """Belief propagation in the dtype of the logits [batch, n_variables, n_values].

    Returns how many rows are left: their status is RECOMPUTE, and the other results are not known.
    """
    dtype = logits.dtype.type
    at = layout(graph, *logits.shape[1:])
    semiring = MaxProduct() if options.maximise else SumProduct()
    settings = Settings(options, semiring, floor_of(at.side, dtype), log_free(graph, at.side))
    workspace = Workspace(scratch(at.total, dtype), scratch(1 << (at.side - 1), dtype))
    # Rows that may stop early stay together.
    chosen = np.argsort(label != 0, kind="stable")
    propagate(rows_of(logits, label, results, chosen), graph, at, settings, workspace)
    return int(np.count_nonzero(results.status == RECOMPUTE))


@lane_function
def multiply_messages(work, at, graph, variable, without, out):
    """Row out + v = prior(v) times the messages to a variable but that of one edge; returns the largest."""
    k, source = at.n_values, at.priors + variable * at.n_values
    for index in range(graph.first_edge[variable], graph.first_edge[variable + 1]):
        edge = graph.edges[index]
        if edge != without:
            message = at.messages + edge * k
            for v in range(k):
                store(work, out + v, load(work, source + v) * load(work, message + v))
            source = out
    largest = filled(work, 0.0)
    for v in range(k):
        value = load(work, source + v)
        largest = maximum(value, largest)
        store(work, out + v, value)
    return largest


@lane_function
def within(value, floor, good):
    """good where a value lies between floor and ceiling, 0 elsewhere."""
    return where_less(value, CEILING, where_less(floor, value, good, 0.0), 0.0)


@lane_function
def total_of(work, first, size):
    """The sum of rows first .. first + size - 1."""
    total = load(work, first)
    for row in range(first + 1, first + size):
        total += load(work, row)
    return total


@lane_function
def fill_matrix(work, at, graph, g, floor):
    """Messages from the members to one factor, the largest of each 1."""
    k, side, good = at.n_values, at.side, load(work, at.good)
    for slot in range(graph.sizes[g]):
        row = at.matrix + slot * side
        largest = multiply_messages(work, at, graph, graph.groups[g, slot], g * at.width + slot, row)
        good = within(largest, floor, good)
        scale = 1.0 / largest
        for v in range(k):
            store(work, row + v, load(work, row + v) * scale)
        for v in range(k, side):
            store(work, row + v, 0.0)
    for entry in range(graph.sizes[g] * side, side * side):
        store(work, at.matrix + entry, 1.0)
    store(work, at.good, good)


@lane_function
def update_factor(workspace, at, graph, g, to, settings):
    """New messages from one factor to its members, into rows from ``to`` on."""
    work, subsets = workspace
    k, side, floor, damping = at.n_values, at.side, settings.floor, settings.options.damping
    fill_matrix(work, at, graph, g, floor)
    for entry in range(side * side):
        store(work, at.minors + entry, 0.0)
    for half in range(2):
        permanent_of(work, subsets, at, half, settings.semiring)
        minors_of(work, subsets, at, half, settings.semiring)
    store(work, at.good, within(load(work, at.permanent), floor, load(work, at.good)))
    active, change = load(work, at.active), load(work, at.changing)
    for slot in range(graph.sizes[g]):
        row, old, new = at.minors + slot * side, at.messages + (g * at.width + slot) * k, to + slot * k
        scale = k * (1.0 - damping) / total_of(work, row, k)
        for v in range(k):
            before = load(work, old + v)
            value = multiply_add(load(work, row + v), scale, before * damping)
            difference = value - before
            change = maximum(maximum(difference, difference * -1.0), change)
            store(work, new + v, where_less(0.0, active, value, before))
    store(work, at.changing, change)


@lane_function
def update_phase(workspace, at, graph, phase, settings, bounded):
    """The factors of a phase read the messages from before it: those that share variables put theirs aside."""
    work, size = workspace.numbers, at.width * at.n_values
    first, last = graph.phases[phase], graph.phases[phase + 1]
    aside = graph.overlapping[phase]
    for g in range(first, last):
        to = at.fresh + (g - first) * size if aside else at.messages + g * size
        update_factor(workspace, at, graph, g, to, settings)
        if bounded and graph.disjoint[g]:
            bound_validity(work, at, graph, g)
    if aside:
        for g in range(first, last):
            for entry in range(graph.sizes[g] * at.n_values):
                store(work, at.messages + g * size + entry, load(work, at.fresh + (g - first) * size + entry))


@lane_function
def bound_validity(work, at, graph, g):
    """Add log of a factor's permanent of the priors to the bound."""
    free = free_placements(at, graph, g)
    for lane in range(work.shape[1]):
        denominator = free
        for slot in range(graph.sizes[g]):
            denominator *= work[at.prior_sums + graph.groups[g, slot], lane]
        work[at.bound, lane] += math.log(work[at.permanent, lane] / denominator)


@lane_function
def sweep(workspace, at, rows, first, graph, settings, bounded):
    """All phases once; ``bounded``: the first of them bounds the probability of validity for rows with label 0."""
    work = workspace.numbers
    store(work, at.changing, 0.0)
    for phase in range(len(graph.overlapping)):
        bound = bounded and phase == 0
        update_phase(workspace, at, graph, phase, settings, bound)
        if bound:
            stop_negligible(work, at, rows, first)
            if not any_lane(work, at.active):
                return
    active = load(work, at.active)
    store(work, at.sweeps, load(work, at.sweeps) + active)
    change = where_less(0.0, active, load(work, at.changing) * (1.0 / at.n_values), load(work, at.change))
    store(work, at.change, change)
    active = where_less(change, settings.options.tolerance, 0.0, active)
    store(work, at.active, where_less(0.0, load(work, at.good), active, 0.0))


@lane_function
def multiply_scaled(product, exponent, factor):
    """product * factor as mantissa and exponent."""
    product *= factor
    shift = exponent_of(product)
    return product * power_of_two(shift * -1.0), exponent + shift


@lane_function
def evidence_of_factors(workspace, at, graph, settings):
    """Permanents over what the messages of each edge agree on, as mantissa and exponent."""
    (work, subsets), floor = workspace, settings.floor
    k, product, exponent = at.n_values, filled(work, 1.0), filled(work, 0.0)
    for g in range(len(graph.sizes)):
        fill_matrix(work, at, graph, g, floor)
        for half in range(2):
            permanent_of(work, subsets, at, half, settings.semiring)
        permanent = load(work, at.permanent)
        good = within(permanent, floor, load(work, at.good))
        product, exponent = multiply_scaled(product, exponent, permanent)
        for slot in range(graph.sizes[g]):
            row, message = at.matrix + slot * at.side, at.messages + (g * at.width + slot) * k
            agreement = load(work, row) * load(work, message)
            for v in range(1, k):
                agreement = multiply_add(load(work, row + v), load(work, message + v), agreement)
            good = within(agreement, floor, good)
            product, exponent = multiply_scaled(product, exponent, 1.0 / agreement)
        store(work, at.good, good)
    return product, exponent


@lane_function
def finish_variables(work, at, graph, product, exponent, floor):
    """Marginals in place of the priors; returns the evidence with the factors of the variables."""
    k, wanted, belief, good = at.n_values, load(work, at.wanted), at.fresh, load(work, at.good)
    for u in range(at.n_variables):
        prior, prior_scale = at.priors + u * k, 1.0 / load(work, at.prior_sums + u)
        good = within(multiply_messages(work, at, graph, u, -1, belief), floor, good)
        total = total_of(work, belief, k)
        scale = 1.0 / total
        product, exponent = multiply_scaled(product, exponent, total * prior_scale)
        for v in range(k):
            posterior = load(work, belief + v) * scale
            store(work, prior + v, where_less(0.0, wanted, posterior, load(work, prior + v) * prior_scale))
    store(work, at.good, good)
    return product, exponent


@lane_function
def read_rows(work, at, rows, first):
    """Exponentials of the logits less the largest one; messages that say nothing. Any row with label 0?"""
    k, valid = at.n_values, filled(work, 1.0)
    read_logits(work, at, rows, first)
    for u in range(at.n_variables):
        prior = at.priors + u * k
        largest = load(work, prior)
        for v in range(1, k):
            largest = maximum(load(work, prior + v), largest)
        total = filled(work, 0.0)
        for v in range(k):
            value = exp_nonpositive(load(work, prior + v) - largest)
            store(work, prior + v, value)
            total += value
        store(work, at.prior_sums + u, total)
        # NaN unless the largest logit is finite and none is NaN.
        valid = where_less(0.0, total, valid, 0.0)
    for row in range(at.messages, at.fresh):
        store(work, row, 1.0)
    store(work, at.valid, valid)
    store(work, at.wanted, valid)
    bounded = False
    for lane in range(work.shape[1]):
        label = rows.label[row_of(work, rows, first, lane)]
        bounded |= label == 0
        if not 0 <= label <= 1:
            work[at.wanted, lane] = 0.0
    store(work, at.active, load(work, at.wanted))
    store(work, at.good, 1.0)
    for row in (at.change, at.sweeps, at.bound):
        store(work, row, 0.0)
    return bounded


@lane_function
def write_row(work, at, rows, row, lane, log_free):
    """Everything but the marginals of one row; the evidence is row 0 of the minors times two to the power of row 1."""
    code, wanted = POSSIBLE, work[at.wanted, lane] > 0.0
    if not 0 <= rows.label[row] <= 1:
        code = INVALID_LABEL
    elif not work[at.valid, lane] > 0.0:
        code = INVALID_LOGITS
    elif wanted and not work[at.good, lane] > 0.0:
        code = RECOMPUTE
    rows.status[row], rows.log_evidence[row] = code, -np.inf
    rows.sweeps[row], rows.change[row] = work[at.sweeps, lane], work[at.change, lane]
    if code == POSSIBLE and wanted:
        rows.log_evidence[row] = math.log(work[at.minors, lane]) + work[at.minors + 1, lane] * LOG_2 - log_free


@kernel
def propagate(rows, graph, at, settings, workspace):
    """As many rows at a time as there are lanes."""
    work, options = workspace.numbers, settings.options
    for first in range(0, len(rows.chosen), work.shape[1]):
        bounded = read_rows(work, at, rows, first) and not options.maximise
        for iteration in range(options.iterations):
            sweep(workspace, at, rows, first, graph, settings, bounded and iteration == 0)
            if options.stopped[0] or not any_lane(work, at.active):
                break
        product, exponent = filled(work, 1.0), filled(work, 0.0)
        if any_lane(work, at.wanted):
            product, exponent = evidence_of_factors(workspace, at, graph, settings)
        product, exponent = finish_variables(work, at, graph, product, exponent, settings.floor)
        store(work, at.minors, product)
        store(work, at.minors + 1, exponent)
        write_marginals(work, at, rows, first)
        for lane in range(min(work.shape[1], len(rows.chosen) - first)):
            row = rows.chosen[first + lane]
            write_row(work, at, rows, row, lane, settings.log_free)
            if options.maximise and rows.log_evidence[row] > -np.inf:
                rows.log_evidence[row] = 0.0
