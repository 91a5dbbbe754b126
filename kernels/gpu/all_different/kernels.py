"""Runs loopy belief propagation with all-different factors, a row of the batch at a time; see the reference.

n, the message of a variable to a group, is its prior times the messages from its other groups, and sums to 1; factor.py
computes what the group answers.
Rows in which float32 loses digits are marked in `redo`, for a launch that computes with float64 logarithms.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.all_different.factor import (
    Graph,
    Options,
    Workspace,
    backward_pass,
    cavity,
    clear_tables,
    forward_pass,
    padded,
    store_rows,
)
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
    log2_of,
    lost,
    one,
    over,
    probability,
    times,
    total,
    zero,
)

NEGLIGIBLE = tl.constexpr(-17.0)  # the log of a probability, as in emnesy_gpu.reference.all_different
VARIABLES_AT_ONCE = tl.constexpr(16)


@triton.jit
def _run_phases(graph, workspace, sweep, damping, ignored, OPTIONS: tl.constexpr):
    """All phases once: the largest change, whether one was lost, and whether the first phase makes label 0 certain.

    ignored: the row has label 0, so that it may stop there.
    """
    row = tl.arange(0, OPTIONS.ROWS)[:, None]
    change = tl.zeros((), workspace.prior.dtype.element_ty)
    failed = 0
    certain = 0
    updated = 0
    while updated < graph.n_groups:
        end = tl.load(graph.phase_end + updated)
        bound = tl.zeros((OPTIONS.ROWS, 1), tl.float64)
        for start in range(updated, end, OPTIONS.ROWS):
            present = start + row < end
            group = tl.where(present, start + row, 0)
            n, real, own, lost_member = cavity(graph, workspace, group, present, sweep, updated, OPTIONS)
            store_rows(workspace, n)
            clear_tables(workspace, OPTIONS, 1 << OPTIONS.K)
            tl.debug_barrier()
            log_permanent, lost_weight = forward_pass(graph, workspace, OPTIONS)
            bound += log_permanent * tl.load(graph.bounding + group, mask=present, other=0)
            real_group = tl.where(present, group, -1)
            difference = backward_pass(graph, workspace, real_group, sweep, damping, OPTIONS)
            change = tl.maximum(change, tl.max(tl.max(difference, 1), 0))
            failed |= tl.max(tl.max(tl.where(present & lost_weight, 1, lost_member), 1), 0)
        if ignored & (sweep == 0) & (updated == 0):
            certain = tl.where(tl.sum(tl.sum(bound, 1), 0) * LN_2 < NEGLIGIBLE, 1 - failed, 0)
        updated = tl.where((failed | certain) == 1, graph.n_groups, end)
    return change, failed, certain


@triton.jit
def _factor_evidence(graph, workspace, sweep, OPTIONS: tl.constexpr):
    """log2 of the Bethe terms of the groups and their edges, float64, and whether digits are lost."""
    K: tl.constexpr = OPTIONS.K
    LOG: tl.constexpr = OPTIONS.LOG
    SUM: tl.constexpr = Options(OPTIONS.ROWS, K, OPTIONS.LANES, LOG, False)
    row = tl.arange(0, OPTIONS.ROWS)[:, None]
    value = tl.arange(0, padded(K))[None, None, :]
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, graph.n_groups, OPTIONS.ROWS):
        present = start + row < graph.n_groups
        group = tl.where(present, start + row, 0)
        n, real, own, lost_member = cavity(graph, workspace, group, present, sweep, 0, OPTIONS)
        store_rows(workspace, n)
        clear_tables(workspace, OPTIONS, 1 << K)
        tl.debug_barrier()
        log_permanent, lost_weight = forward_pass(graph, workspace, SUM)
        pointers = workspace.messages + ((sweep & 1) * graph.n_groups * graph.width + own) * K + value
        pairs = times(n, tl.load(pointers, mask=real & (value < K), other=zero(LOG)), LOG)
        pairs = total(tl.where(value < K, pairs, zero(LOG)), 2, LOG, False)
        lost_pair = tl.max(tl.max(tl.where(real & lost(pairs, LOG), 1, 0), 2), 1)[:, None]
        evidence += tl.sum(tl.sum(tl.where(present, log_permanent, 0.0), 1), 0)
        evidence -= tl.sum(tl.sum(tl.sum(tl.where(real, log2_of(pairs, LOG), 0.0), 2), 1), 0)
        lost_any = tl.maximum(tl.maximum(lost_member, lost_pair), tl.where(lost_weight, 1, 0))
        failed |= tl.max(tl.max(tl.where(present, lost_any, 0), 1), 0)
    return evidence, failed


@triton.jit
def _store_beliefs(graph, workspace, marginals_ptr, sweep, as_prior, K: tl.constexpr, LOG: tl.constexpr):
    """Beliefs [N, K], or the prior; the log2 of their sums, and whether digits are lost."""
    value = tl.arange(0, padded(K))[None, :]
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, graph.n_variables, VARIABLES_AT_ONCE):
        variable = start + tl.arange(0, VARIABLES_AT_ONCE)[:, None]
        real = variable < graph.n_variables
        inside = real & (value < K)
        belief = tl.load(workspace.prior + variable * K + value, mask=inside, other=zero(LOG))
        degree = tl.where(as_prior == 0, tl.load(graph.degree + variable, mask=real, other=0), 0)
        for i in range(tl.max(tl.max(degree, 1), 0)):
            edge = tl.load(graph.incident + variable * graph.n_groups + i, mask=i < degree, other=0)
            pointers = workspace.messages + ((sweep & 1) * graph.n_groups * graph.width + edge) * K + value
            belief = times(belief, tl.load(pointers, mask=inside & (i < degree), other=one(LOG)), LOG)
        sums = total(belief, 1, LOG, False)
        failed |= tl.max(tl.max(tl.where(real & lost(sums, LOG), 1, 0), 1), 0)
        evidence += tl.sum(tl.sum(tl.where(real, log2_of(sums, LOG), 0.0), 1), 0)
        tl.store(marginals_ptr + variable * K + value, probability(over(belief, sums, LOG), LOG), mask=inside)
    return evidence, failed


@triton.jit
def row_by_groups(graph, workspace, row, label, schedule, OPTIONS: tl.constexpr):
    """One row of the batch, from logits to results."""
    K: tl.constexpr = OPTIONS.K
    LOG: tl.constexpr = OPTIONS.LOG
    code = store_prior(row.logits, workspace.prior, graph.n_variables, K, padded(K), VARIABLES_AT_ONCE, LOG)
    code = tl.maximum(code, label_status(label))
    store_ones(workspace.messages, graph.n_groups * graph.width * K, LOG)
    tl.debug_barrier()
    sweep = 0
    change = tl.zeros((), workspace.prior.dtype.element_ty)
    failed = 0
    certain = 0
    ignored = (label == 0) & (not OPTIONS.MAX)
    going = (code == POSSIBLE) & (schedule.iterations > 0)
    while going:
        change, failed, certain = _run_phases(graph, workspace, sweep, schedule.damping, ignored, OPTIONS)
        sweep += 1
        going = (sweep < schedule.iterations) & (change >= schedule.tolerance) & ((failed | certain) == 0)
    evidence = tl.zeros((), tl.float64)
    if (code == POSSIBLE) & ((failed | certain) == 0):
        evidence, failed = _factor_evidence(graph, workspace, sweep, OPTIONS)
    as_prior = tl.where((code > POSSIBLE) | ((failed | certain) == 1), 1, 0)
    sums, lost_belief = _store_beliefs(graph, workspace, row.marginals, sweep, as_prior, K, LOG)
    if (as_prior == 0) & (lost_belief == 1):
        failed = 1
        _store_beliefs(graph, workspace, row.marginals, sweep, 1, K, LOG)
    evidence = tl.where(OPTIONS.MAX, 0.0, (evidence + sums) * LN_2)
    store_outcome(row, code, failed, certain, evidence, sweep, change)


@triton.jit
def workspace_of(scratch_ptr, graph, ROWS: tl.constexpr, K: tl.constexpr):
    """The part of the scratch memory that belongs to this program."""
    prior_size = graph.n_variables * K
    messages_size = 2 * graph.n_groups * graph.width * K
    fixed = ROWS * (padded(K) * padded(K) + 2 * (2 << K))
    scratch_ptr += tl.program_id(0).to(tl.int64) * (prior_size + messages_size + fixed)
    incoming = scratch_ptr + prior_size + messages_size
    tables = incoming + ROWS * padded(K) * padded(K)
    return Workspace(scratch_ptr, scratch_ptr + prior_size, incoming, tables, tables + ROWS * (2 << K))


@triton.jit(do_not_specialize=["batch", "n_variables", "n_groups", "width", "iterations"])
def belief_propagation_kernel(
    logits_ptr, label_ptr, groups_ptr, incident_ptr, degree_ptr, phase_end_ptr, bounding_ptr, subsets_ptr,
    scratch_ptr, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, batch, n_variables, n_groups,
    width, iterations, damping_high, damping_low, tolerance, ROWS: tl.constexpr, K: tl.constexpr, LANES: tl.constexpr,
    MAX: tl.constexpr,
):  # fmt: skip
    """Rows of the batch one after another, ROWS groups at a time; with float64 scratch only rows with redo, in log2.

    Grid (programs,), row i to program i mod programs. logits and out [batch, N, K]; scratch [programs, ...] as in
    Workspace; other shapes as in Graph and Rows.
    """
    # Written out in the kernel: a function's result is no compile-time constant in Triton 3.6.
    LOG: tl.constexpr = (
        0 if scratch_ptr.dtype.element_ty == tl.float32 else 1 if out_ptr.dtype.element_ty == tl.float32 else 2
    )
    OPTIONS: tl.constexpr = Options(ROWS, K, LANES, LOG, MAX)
    graph = Graph(
        groups_ptr, incident_ptr, degree_ptr, phase_end_ptr, bounding_ptr, subsets_ptr, n_variables, n_groups, width
    )
    rows = Rows(logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr)
    workspace = workspace_of(scratch_ptr, graph, ROWS, K)
    clear_tables(workspace, OPTIONS, 2 << K)
    damping = tl.zeros((), scratch_ptr.dtype.element_ty) + damping_high + damping_low
    schedule = Schedule(iterations, damping, tolerance)
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + i
        if is_wanted(rows, row, LOG):
            offset = row * n_variables * K
            tl.debug_barrier()
            label = tl.load(rows.label + row)
            row_by_groups(graph, workspace, rows_from(rows, row, offset), label, schedule, OPTIONS)
