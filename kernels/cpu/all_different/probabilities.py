"""Loopy belief propagation with all-different factors in plain probabilities, with a guard against underflow.

Rows of the batch lie in lanes, numbers in the rows of one scratch array (``Layout``), float32 or float64. Factors with
fewer members than values are padded with members that take any value, which multiplies permanents by (side - w)!.
Messages from factors sum to n_values, so that uniform ones change nothing.

Rows of the matrix have largest entry 1, so sums cannot overflow, and entries and products below the smallest normal
number are lost. Rows of the batch where that could matter, because a permanent or a product of messages is below a
floor (``floor_of``), are handed back (``RECOMPUTE``).
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.all_different.blocks import MaxProduct, SumProduct
from emnesy_gpu.kernels.cpu.all_different.factors import (
    Settings,
    Workspace,
    evidence_of_factors,
    multiply_messages,
    multiply_scaled,
    total_of,
    update_phase,
    within,
)
from emnesy_gpu.kernels.cpu.all_different.graph import Graph, layout, log_free, rows_of, vectors_of
from emnesy_gpu.kernels.cpu.all_different.rows import (
    any_lane,
    read_logits,
    row_of,
    stop_negligible,
    write_marginals,
)
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lane_scratch import scratch
from emnesy_gpu.kernels.cpu.common.lanes import as_lanes, exp_nonpositive, filled, load, maximum, store, where_less
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, PropagationResults
from emnesy_gpu.kernels.cpu.common.subnormals import flush_subnormals, subnormals_as_before
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE

LOG_2 = math.log(2.0)

TOLERANCE = 1e-6
"""The share of a permanent or a message that may be missing."""

OTHER_PASSES = 1 / 6
"""Time of a factor of one row outside the sums over subsets, in units of those sums for half the lanes."""


def floor_of(side: int, dtype: type) -> float:
    """What permanents and products of messages must not be less than.

    side^2 lost entries with minors up to (side - 1)! are missing from a permanent. So are products on the way to the
    sums over subsets, s of each of those of size s, with what leads on up to (side - s)!: together e side!, from either
    end. As a share of a message side times as much is missing over the permanent, which counts once more over the
    product of messages it enters.
    """
    smallest_normal = float(np.finfo(dtype).smallest_normal)
    lost = (side**2 + 2 * math.e * side) * math.factorial(side - 1) * smallest_normal
    return math.sqrt(side * lost / TOLERANCE)


def row_after_row(graph: Graph, rows: int, lanes: int) -> bool:
    """Whether few rows take less time with the factors of a phase in lanes than with the rows in them."""
    passes = len(graph.sizes) * (1 if rows <= lanes // 2 else 2)
    return rows * (vectors_of(graph, lanes // 2) + OTHER_PASSES * len(graph.sizes)) < passes


def run(graph: Graph, options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults) -> int:
    """Belief propagation in the dtype of the logits [batch, n_variables, n_values].

    Returns how many rows are left: their status is RECOMPUTE, and the other results are not known.
    """
    dtype = logits.dtype.type
    at = layout(graph, *logits.shape[1:])
    semiring = MaxProduct() if options.maximise else SumProduct()
    settings = Settings(options, semiring, floor_of(at.side, dtype), log_free(graph, at.side))
    subsets = scratch(1 << (at.side - 1), dtype)
    # Rows that may stop early stay together.
    rows = rows_of(logits, label, results, np.argsort(label != 0, kind="stable"))
    if row_after_row(graph, len(label), subsets.shape[1]):
        numbers, factors = np.empty(at.total, dtype), scratch(at.permanent + 1, dtype)
        factors[:] = 1.0
    else:
        numbers = factors = scratch(at.total, dtype)
    propagate(rows, graph, at, settings, numbers, factors, subsets)
    return int(np.count_nonzero(results.status == RECOMPUTE))


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
        if not 0 <= label <= 1 or first + lane >= len(rows.chosen):
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
def propagate(rows, graph, at, settings, numbers, factors, subsets):
    """As many rows at a time as there are lanes; see ``Workspace`` for the last three arguments."""
    work, options, before = as_lanes(numbers), settings.options, flush_subnormals()
    for first in range(0, len(rows.chosen), work.shape[1]):
        workspace = Workspace(work, factors, subsets, min(work.shape[1], len(rows.chosen) - first))
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
    subnormals_as_before(before)
