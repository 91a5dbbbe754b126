"""Runs loopy belief propagation with pairwise not-equal factors, a row of the batch at a time; see the reference.

The message from i to its neighbour j is m(v) = sum_{u != v} q(u), where q is the prior of i times the messages to i
from all neighbours but j, and sums to 1. Rows in which float32 loses digits are marked in `redo`, for a launch that
computes with float64 logarithms.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.belief_rows import (
    Rows,
    Schedule,
    is_wanted,
    label_status,
    rows_from,
    store_ones,
    store_outcome,
    store_prior,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import (
    complement,
    constant,
    log2_of,
    lost,
    mixture,
    one,
    over,
    probability,
    times,
    total,
    zero,
)


class Options(NamedTuple):
    """Sizes and algebra known at compile time."""

    K: tl.constexpr  # values
    PADDED: tl.constexpr  # lanes of a row of values, a power of two
    TILE: tl.constexpr  # variables at once
    LOG: tl.constexpr  # as in sum_product
    MAX: tl.constexpr  # whether messages are maxima


class Graph(NamedTuple):
    """Which variables differ, and in which order they are updated: the same for all rows of the batch."""

    neighbours: object  # int32 [N, D], -1: none
    reverse: object  # int32 [N, D]: the slot of the variable among those of its neighbour
    order: object  # int32 [N]
    position: object  # int32 [N]: the inverse of order
    phase_end: object  # int32 [N]: where the phase of a place in the order ends
    n_variables: object
    degree: object


class Workspace(NamedTuple):
    """Where a program keeps one row of the batch. Messages are probabilities times K."""

    prior: object  # [N, K]
    messages: object  # [2, N, D, K]: to a variable from its neighbours, those of sweep t at t % 2
    after: object  # [D, TILE, PADDED]: the prior times the messages after each neighbour's


@triton.jit
def _message(graph, workspace, variable, s, sweep, updated, OPTIONS: tl.constexpr):
    """Messages [TILE, PADDED] from the neighbours in slot s of variables [TILE, 1], ones where there is none.

    Variables before `updated` in order are a sweep ahead. Also returns the neighbours [TILE, 1], -1 for none.
    """
    K: tl.constexpr = OPTIONS.K
    value = tl.arange(0, OPTIONS.PADDED)[None, :]
    slot = variable * graph.degree + s
    neighbour = tl.load(graph.neighbours + slot, mask=variable >= 0, other=-1)
    real = neighbour >= 0
    place = tl.load(graph.position + neighbour, mask=real, other=0)
    turn = (sweep + tl.where(place < updated, 1, 0)) & 1
    pointers = workspace.messages + (turn * graph.n_variables * graph.degree + slot) * K + value
    return tl.load(pointers, mask=real & (value < K), other=one(OPTIONS.LOG)), neighbour


@triton.jit
def _product(graph, workspace, variable, sweep, updated, OPTIONS: tl.constexpr):
    """The prior times all messages to variables [TILE, 1], [TILE, PADDED]; stores what comes after each slot."""
    K: tl.constexpr = OPTIONS.K
    PADDED: tl.constexpr = OPTIONS.PADDED
    TILE: tl.constexpr = OPTIONS.TILE
    LOG: tl.constexpr = OPTIONS.LOG
    value = tl.arange(0, PADDED)[None, :]
    entry = tl.arange(0, TILE)[:, None] * PADDED + value
    product = tl.load(workspace.prior + variable * K + value, mask=(variable >= 0) & (value < K), other=zero(LOG))
    tl.debug_barrier()
    for back in range(graph.degree):
        s = graph.degree - 1 - back
        tl.store(workspace.after + s * (TILE * PADDED) + entry, product)
        message, neighbour = _message(graph, workspace, variable, s, sweep, updated, OPTIONS)
        product = times(product, message, LOG)
    tl.debug_barrier()
    return product


@triton.jit
def _cavity(workspace, before, s, neighbour, OPTIONS: tl.constexpr):
    """q [TILE, PADDED] towards the neighbours [TILE, 1] in slot s, and whether one is lost, 0 or 1.

    before: the products of the messages from the slots before s.
    """
    K: tl.constexpr = OPTIONS.K
    PADDED: tl.constexpr = OPTIONS.PADDED
    TILE: tl.constexpr = OPTIONS.TILE
    LOG: tl.constexpr = OPTIONS.LOG
    value = tl.arange(0, PADDED)[None, :]
    after = tl.load(workspace.after + (s * TILE + tl.arange(0, TILE)[:, None]) * PADDED + value)
    q = tl.where(value < K, times(before, after, LOG), zero(LOG))
    sums = total(q, 1, LOG, False)
    return over(q, sums, LOG), tl.max(tl.max(tl.where((neighbour >= 0) & lost(sums, LOG), 1, 0), 1), 0)


@triton.jit
def _update(graph, workspace, first, end, sweep, updated, damping, OPTIONS: tl.constexpr):
    """Outgoing messages of the variables [first, end) in order; their largest change, and whether one was lost."""
    K: tl.constexpr = OPTIONS.K
    PADDED: tl.constexpr = OPTIONS.PADDED
    TILE: tl.constexpr = OPTIONS.TILE
    LOG: tl.constexpr = OPTIONS.LOG
    value = tl.arange(0, PADDED)[None, :]
    row = first + tl.arange(0, TILE)[:, None]
    variable = tl.load(graph.order + row, mask=row < end, other=-1)
    _product(graph, workspace, variable, sweep, updated, OPTIONS)
    before = tl.zeros((TILE, PADDED), workspace.prior.dtype.element_ty) + one(LOG)
    step = graph.n_variables * graph.degree * K
    change = tl.zeros((), workspace.prior.dtype.element_ty)
    failed = 0
    for s in range(graph.degree):
        message, neighbour = _message(graph, workspace, variable, s, sweep, updated, OPTIONS)
        q, lost_cavity = _cavity(workspace, before, s, neighbour, OPTIONS)
        before = times(before, message, LOG)
        new = tl.where(value < K, complement(q, LOG, OPTIONS.MAX), zero(LOG))
        sums = total(new, 1, LOG, False)
        real = neighbour >= 0
        failed |= lost_cavity | tl.max(tl.max(tl.where(real & lost(sums, LOG), 1, 0), 1), 0)
        new = times(over(new, sums, LOG), constant(tl.full((1, 1), K, tl.int32), new, LOG), LOG)
        there = tl.load(graph.reverse + variable * graph.degree + s, mask=real, other=0)
        pointers = workspace.messages + (neighbour * graph.degree + there) * K + value
        inside = real & (value < K)
        old = tl.load(pointers + (sweep & 1) * step, mask=inside, other=one(LOG))
        new = mixture(new, old, damping, LOG)
        tl.store(pointers + (1 - (sweep & 1)) * step, new, mask=inside)
        difference = tl.where(inside, tl.abs(probability(new, LOG) - probability(old, LOG)), 0.0) * (1.0 / K)
        change = tl.maximum(change, tl.max(tl.max(difference, 1), 0))
    return change, failed


@triton.jit
def _variable_terms(graph, workspace, marginals_ptr, sweep, as_prior, OPTIONS: tl.constexpr):
    """Beliefs, or the prior; log2 of their sums less those of the pairs (q, message), and whether one is lost.

    Leaves every q where the message from that neighbour would be in the next sweep.
    """
    K: tl.constexpr = OPTIONS.K
    PADDED: tl.constexpr = OPTIONS.PADDED
    TILE: tl.constexpr = OPTIONS.TILE
    LOG: tl.constexpr = OPTIONS.LOG
    value = tl.arange(0, PADDED)[None, :]
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, graph.n_variables, TILE):
        row = start + tl.arange(0, TILE)[:, None]
        exists = row < graph.n_variables
        variable = tl.where(exists, row, -1)
        inside = exists & (value < K)
        belief = _product(graph, workspace, variable, sweep, 0, OPTIONS)
        sums = total(belief, 1, LOG, False)
        failed |= tl.max(tl.max(tl.where(exists & lost(sums, LOG), 1, 0), 1), 0)
        evidence += tl.sum(tl.sum(tl.where(exists, log2_of(sums, LOG), 0.0), 1), 0)
        prior = tl.load(workspace.prior + variable * K + value, mask=inside, other=zero(LOG))
        belief = tl.where(as_prior == 1, prior, over(belief, sums, LOG))
        tl.store(marginals_ptr + variable * K + value, probability(belief, LOG), mask=inside)
        before = tl.zeros((TILE, PADDED), workspace.prior.dtype.element_ty) + one(LOG)
        for s in range(graph.degree):
            message, neighbour = _message(graph, workspace, variable, s, sweep, 0, OPTIONS)
            q, lost_cavity = _cavity(workspace, before, s, neighbour, OPTIONS)
            before = times(before, message, LOG)
            pairs = total(tl.where(value < K, times(q, message, LOG), zero(LOG)), 1, LOG, False)
            real = neighbour >= 0
            failed |= lost_cavity | tl.max(tl.max(tl.where(real & lost(pairs, LOG), 1, 0), 1), 0)
            evidence -= tl.sum(tl.sum(tl.where(real, log2_of(pairs, LOG), 0.0), 1), 0)
            slot = (1 - (sweep & 1)) * graph.n_variables * graph.degree + variable * graph.degree + s
            tl.store(workspace.messages + slot * K + value, q, mask=real & (value < K))
    return evidence, failed


@triton.jit
def _edge_terms(graph, workspace, sweep, OPTIONS: tl.constexpr):
    """log2 of sum_{u != v} q(u) q'(v) over all edges, from what _variable_terms left; and whether one is lost."""
    K: tl.constexpr = OPTIONS.K
    PADDED: tl.constexpr = OPTIONS.PADDED
    TILE: tl.constexpr = OPTIONS.TILE
    LOG: tl.constexpr = OPTIONS.LOG
    value = tl.arange(0, PADDED)[None, :]
    cavities = workspace.messages + (1 - (sweep & 1)) * graph.n_variables * graph.degree * K + value
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, graph.n_variables, TILE):
        variable = start + tl.arange(0, TILE)[:, None]
        for s in range(graph.degree):
            slot = variable * graph.degree + s
            neighbour = tl.load(graph.neighbours + slot, mask=variable < graph.n_variables, other=-1)
            once = neighbour > variable
            inside = once & (value < K)
            there = neighbour * graph.degree + tl.load(graph.reverse + slot, mask=once, other=0)
            q = tl.load(cavities + slot * K, mask=inside, other=zero(LOG))
            opposite = tl.load(cavities + there * K, mask=inside, other=zero(LOG))
            pairs = times(complement(q, LOG, False), opposite, LOG)
            pairs = total(tl.where(value < K, pairs, zero(LOG)), 1, LOG, False)
            failed |= tl.max(tl.max(tl.where(once & lost(pairs, LOG), 1, 0), 1), 0)
            evidence += tl.sum(tl.sum(tl.where(once, log2_of(pairs, LOG), 0.0), 1), 0)
    return evidence, failed


@triton.jit
def _sweep(graph, workspace, sweep, damping, OPTIONS: tl.constexpr):
    """All phases once, unless digits are lost on the way: the largest change, and whether they are."""
    change = tl.zeros((), workspace.prior.dtype.element_ty)
    failed = 0
    updated = 0
    while updated < graph.n_variables:
        end = tl.load(graph.phase_end + updated)
        for first in range(updated, end, OPTIONS.TILE):
            difference, lost_message = _update(graph, workspace, first, end, sweep, updated, damping, OPTIONS)
            change = tl.maximum(change, difference)
            failed |= lost_message
        tl.debug_barrier()
        updated = tl.where(failed == 1, graph.n_variables, end)
    return change, failed


@triton.jit
def _row_by_pairs(graph, workspace, row, schedule, OPTIONS: tl.constexpr):
    """One row of the batch, from logits to results."""
    label = tl.load(row.label)
    code = store_prior(
        row.logits, workspace.prior, graph.n_variables, OPTIONS.K, OPTIONS.PADDED, OPTIONS.TILE, OPTIONS.LOG
    )
    code = tl.maximum(code, label_status(label))
    store_ones(workspace.messages, graph.n_variables * graph.degree * OPTIONS.K, OPTIONS.LOG)
    tl.debug_barrier()
    sweep = 0
    change = tl.zeros((), workspace.prior.dtype.element_ty)
    failed = 0
    going = (code == POSSIBLE) & (schedule.iterations > 0)
    while going:
        change, failed = _sweep(graph, workspace, sweep, schedule.damping, OPTIONS)
        sweep += 1
        going = (sweep < schedule.iterations) & (change >= schedule.tolerance) & (failed == 0)
    as_prior = tl.where((code > POSSIBLE) | (failed == 1), 1, 0)
    evidence, lost_term = _variable_terms(graph, workspace, row.marginals, sweep, as_prior, OPTIONS)
    tl.debug_barrier()
    edges, lost_edge = _edge_terms(graph, workspace, sweep, OPTIONS)
    if (as_prior == 0) & ((lost_term | lost_edge) == 1):
        failed = 1
        tl.debug_barrier()
        _variable_terms(graph, workspace, row.marginals, sweep, 1, OPTIONS)
    evidence = tl.where(OPTIONS.MAX, 0.0, (evidence + edges) * LN_2)
    store_outcome(row, code, failed, 0, evidence, sweep, change)


@triton.jit(do_not_specialize=["batch", "n_variables", "degree", "iterations"])
def pairwise_kernel(
    logits_ptr, label_ptr, neighbours_ptr, reverse_ptr, order_ptr, position_ptr, phase_end_ptr, scratch_ptr, out_ptr,
    evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, batch, n_variables, degree, iterations, damping_high,
    damping_low, tolerance, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """Rows of the batch one after another, TILE variables at a time; with float64 scratch only rows with redo, in log2.

    Grid (programs,), row i to program i mod programs. logits and out [batch, N, K]; scratch [programs, ...] as in
    Workspace; other shapes as in Graph and Rows.
    """
    # Written out in the kernel: a function's result is no compile-time constant in Triton 3.6.
    LOG: tl.constexpr = (
        0 if scratch_ptr.dtype.element_ty == tl.float32 else 1 if out_ptr.dtype.element_ty == tl.float32 else 2
    )
    OPTIONS: tl.constexpr = Options(K, PADDED, TILE, LOG, MAX)
    graph = Graph(neighbours_ptr, reverse_ptr, order_ptr, position_ptr, phase_end_ptr, n_variables, degree)
    rows = Rows(logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr)
    prior_size = n_variables * K
    messages_size = 2 * n_variables * degree * K
    scratch_ptr += tl.program_id(0).to(tl.int64) * (prior_size + messages_size + degree * TILE * PADDED)
    workspace = Workspace(scratch_ptr, scratch_ptr + prior_size, scratch_ptr + prior_size + messages_size)
    damping = tl.zeros((), scratch_ptr.dtype.element_ty) + damping_high + damping_low
    schedule = Schedule(iterations, damping, tolerance)
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + i
        if is_wanted(rows, row, LOG):
            offset = row * n_variables * K
            tl.debug_barrier()
            _row_by_pairs(graph, workspace, rows_from(rows, row, offset), schedule, OPTIONS)
