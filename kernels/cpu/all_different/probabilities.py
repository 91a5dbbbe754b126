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
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
from numba import types
from numba.extending import overload

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
from emnesy_gpu.kernels.cpu.all_different.graph import Plan, graph_at, layout_at, vectors_of
from emnesy_gpu.kernels.cpu.all_different.rows import (
    any_lane,
    read_logits,
    row_of,
    rows_of,
    stop_negligible,
    write_marginals,
)
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_scratch, scratch
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT32_LANES,
    FLOAT64_LANES,
    as_lanes,
    exp_nonpositive,
    filled,
    load,
    maximum,
    store,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.propagation_calls import Call, any_larger, rows_at
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE
from emnesy_gpu.kernels.cpu.common.symbol_rows import count_left
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE

LOG_2 = math.log(2.0)

LANES = {True: FLOAT32_LANES, False: FLOAT64_LANES}
"""Whether floats are float32 -> the lanes of a row of scratch."""

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


def row_after_row(phases: Sequence[int], rows: int, lanes: int) -> bool:
    """Whether few rows take less time with the factors of a phase in lanes than with the rows in them."""
    passes = sum(phases) * (1 if rows <= lanes // 2 else 2)
    return rows * (vectors_of(phases, lanes // 2) + OTHER_PASSES * sum(phases)) < passes


def call_of(plan: Plan, dtype: type, maximise: bool, rows: int) -> Call:
    """How so many rows are computed in a float type; kept with the plan."""
    single = dtype is np.float32
    return _call_of(plan, single, maximise, row_after_row(plan.phases, rows, LANES[single]))


@lru_cache(maxsize=64)
def _call_of(plan: Plan, single: bool, maximise: bool, one_lane: bool) -> Call:
    at, lanes, semiring = plan.at, LANES[single], MaxProduct() if maximise else SumProduct()
    size = at.shared + at.subsets + -(-at.total // lanes) if one_lane else at.total + at.subsets
    floor = floor_of(at.side, np.float32 if single else np.float64)
    records = plan.graph_record.address, plan.layout_record.address
    work = partial(_new_work, size, single, one_lane)
    return Call(propagate, (floor, plan.log_free, maximise, semiring, *records), work, plan)


def _new_work(rows: int, single: bool, one_lane: bool) -> np.ndarray:
    """Scratch for ``workspace_in``."""
    work = kept_scratch(rows) if single else scratch(rows, np.float64)
    return work.reshape(-1) if one_lane else work


def workspace_in(work, at, used):
    """In kernels: the workspace of so many rows, in lanes of work [rows, lanes], or of one lane in flat work."""
    raise NotImplementedError


@overload(workspace_in)
def _workspace_in(work, at, used):
    lanes = LANES[work.dtype == types.float32]

    def of_one_lane(work, at, used):
        subsets, numbers = at.shared * lanes, (at.shared + at.subsets) * lanes
        return Workspace(
            as_lanes(work[numbers : numbers + at.total]),
            work[:subsets].reshape(at.shared, lanes),
            work[subsets:numbers].reshape(at.subsets, lanes),
            used,
        )

    def of_rows(work, at, used):
        numbers = work[: at.total]
        return Workspace(numbers, numbers, work[at.total : at.total + at.subsets], used)

    return of_one_lane if work.ndim == 1 else of_rows


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


@lane_function
def propagate_rows(rows, graph, at, settings, work):
    """As many rows at a time as there are lanes."""
    options, whole = settings.options, workspace_in(work, at, 0)
    lanes = whole.numbers.shape[1]
    if lanes == 1:
        whole.factors[:] = 1.0
    for first in range(0, len(rows.chosen), lanes):
        workspace = workspace_in(work, at, min(lanes, len(rows.chosen) - first))
        numbers = workspace.numbers
        bounded = read_rows(numbers, at, rows, first) and not options.maximise
        for iteration in range(options.iterations):
            sweep(workspace, at, rows, first, graph, settings, bounded and iteration == 0)
            if options.stopped[0] or not any_lane(numbers, at.active):
                break
        product, exponent = filled(numbers, 1.0), filled(numbers, 0.0)
        if any_lane(numbers, at.wanted):
            product, exponent = evidence_of_factors(workspace, at, graph, settings)
        product, exponent = finish_variables(numbers, at, graph, product, exponent, settings.floor)
        store(numbers, at.minors, product)
        store(numbers, at.minors + 1, exponent)
        write_marginals(numbers, at, rows, first)
        for lane in range(workspace.used):
            row = rows.chosen[first + lane]
            write_row(numbers, at, rows, row, lane, settings.log_free)
            if options.maximise and rows.log_evidence[row] > -np.inf:
                rows.log_evidence[row] = 0.0


@lane_function
def rows_in_order(label):
    """Those with label 0 first: rows that may stop early stay together."""
    order, found = np.empty(len(label), np.int64), 0
    for is_first in (True, False):
        for row in range(len(label)):
            if (label[row] == 0) == is_first:
                order[found] = row
                found += 1
    return order


@kernel
def propagate(
    logits,
    label,
    marginals,
    log_evidence,
    status,
    sweeps,
    change,
    stopped,
    batch,
    iterations,
    damping,
    tolerance,
    largest,
    floor,
    log_free,
    maximise,
    semiring,
    graph,
    layout,
    work,
):
    """All rows of the batch: see ``Call``."""
    number = work.dtype.type
    graph, at = graph_at(graph, 0), layout_at(layout, 0)
    addresses = logits, label, marginals, log_evidence, status, sweeps, change, stopped
    shape = batch, at.n_variables, at.n_values
    if any_larger(addresses, shape, number(largest)):
        return batch
    logits, label, results, stopped = rows_at(addresses, shape, number(0))
    options = Options(iterations, damping, tolerance, maximise, stopped)
    rows = rows_of(logits, label, results, rows_in_order(label))
    propagate_rows(rows, graph, at, Settings(options, semiring, floor, log_free), work)
    return count_left(results.status)
