"""Loopy belief propagation with all-different factors, a row of the batch at a time; contract in emnesy_gpu.reference."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.all_different.factor import (
    Board,
    backward_pass,
    cavity,
    clear_tables,
    forward_pass,
    padded,
    store_rows,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2
from emnesy_gpu.kernels.gpu.common.sum_product import (
    log2_of,
    lost,
    one,
    over,
    probability,
    store_ones,
    store_outcome,
    store_prior,
    times,
    total,
    zero,
)

NEGLIGIBLE = tl.constexpr(-17.0)


@triton.jit(do_not_specialize=["n_variables", "n_groups", "width", "n_first"])
def graph_kernel(
    groups_ptr, incident_ptr, degree_ptr, bounding_ptr, n_variables, n_groups, width, n_first, EDGES: tl.constexpr,
    VARIABLES: tl.constexpr,
):  # fmt: skip
    """Where each variable stands in the groups; and the first of the n_first groups that are disjoint.

    Grid (n_variables + 1,): a variable each, and the disjoint groups. groups [G, W]; incident [N, G], degree [N],
    bounding [G] (1: taken for the bound of p(valid)).
    """
    variable = tl.program_id(0)
    edge = tl.arange(0, EDGES)
    if variable < n_variables:
        here = tl.load(groups_ptr + edge, mask=edge < n_groups * width, other=-1) == variable
        rank = tl.cumsum(here.to(tl.int32), 0)
        tl.store(incident_ptr + variable * n_groups + rank - 1, edge, mask=here)
        tl.store(degree_ptr + variable, tl.max(rank, 0))
    else:
        every = tl.arange(0, VARIABLES)
        taken = every < 0
        for g in range(n_first):
            members = every < 0
            for s in range(width):
                members |= every == tl.load(groups_ptr + g * width + s)
            overlaps = tl.max((taken & members).to(tl.int32), 0)
            taken |= members & (overlaps == 0)
            tl.store(bounding_ptr + g, 1 - overlaps)


@triton.jit
def _run_phases(
    board, phase_end_ptr, bounding_ptr, sweep, damping, ignored, ROWS: tl.constexpr, K: tl.constexpr,
    LANES: tl.constexpr, LOG: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """All phases once: the largest change, whether one was lost, and whether the first phase makes label 0 certain.

    ignored: the row has label 0, so that it may stop there.
    """
    row = tl.arange(0, ROWS)[:, None]
    change = tl.zeros((), board.prior.dtype.element_ty)
    failed = 0
    certain = 0
    updated = 0
    while updated < board.n_groups:
        end = tl.load(phase_end_ptr + updated)
        bound = tl.zeros((ROWS, 1), tl.float64)
        for start in range(updated, end, ROWS):
            present = start + row < end
            group = tl.where(present, start + row, 0)
            n, real, own, lost_member = cavity(board, group, present, sweep, updated, K, LOG)
            store_rows(board, n)
            clear_tables(board, ROWS, K, LANES, 1 << K, LOG)
            tl.debug_barrier()
            log_permanent, lost_weight = forward_pass(board, ROWS, K, LANES, LOG, MAX)
            bound += log_permanent * tl.load(bounding_ptr + group, mask=present, other=0)
            difference = backward_pass(board, tl.where(present, group, -1), sweep, damping, ROWS, K, LANES, LOG, MAX)
            change = tl.maximum(change, tl.max(tl.max(difference, 1), 0))
            failed |= tl.max(tl.max(tl.where(present & lost_weight, 1, lost_member), 1), 0)
        if ignored & (sweep == 0) & (updated == 0):
            certain = tl.where(tl.sum(tl.sum(bound, 1), 0) * LN_2 < NEGLIGIBLE, 1 - failed, 0)
        updated = tl.where((failed | certain) == 1, board.n_groups, end)
    return change, failed, certain


@triton.jit
def _factor_evidence(
    board, sweep, ROWS: tl.constexpr, K: tl.constexpr, LANES: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """log2 of the Bethe terms of the groups and their edges, float64, and whether digits are lost."""
    row = tl.arange(0, ROWS)[:, None]
    value = tl.arange(0, padded(K))[None, None, :]
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, board.n_groups, ROWS):
        present = start + row < board.n_groups
        group = tl.where(present, start + row, 0)
        n, real, own, lost_member = cavity(board, group, present, sweep, 0, K, LOG)
        store_rows(board, n)
        clear_tables(board, ROWS, K, LANES, 1 << K, LOG)
        tl.debug_barrier()
        log_permanent, lost_weight = forward_pass(board, ROWS, K, LANES, LOG, False)
        pointers = board.messages + ((sweep & 1) * board.n_groups * board.width + own) * K + value
        pairs = times(n, tl.load(pointers, mask=real & (value < K), other=zero(LOG)), LOG)
        pairs = total(tl.where(value < K, pairs, zero(LOG)), 2, LOG, False)
        lost_pair = tl.max(tl.max(tl.where(real & lost(pairs, LOG), 1, 0), 2), 1)[:, None]
        evidence += tl.sum(tl.sum(tl.where(present, log_permanent, 0.0), 1), 0)
        evidence -= tl.sum(tl.sum(tl.sum(tl.where(real, log2_of(pairs, LOG), 0.0), 2), 1), 0)
        lost_any = tl.maximum(tl.maximum(lost_member, lost_pair), tl.where(lost_weight, 1, 0))
        failed |= tl.max(tl.max(tl.where(present, lost_any, 0), 1), 0)
    return evidence, failed


@triton.jit
def _store_beliefs(board, out_ptr, sweep, n_variables, as_prior, K: tl.constexpr, LOG: tl.constexpr):
    """Beliefs [N, K], or the prior; the log2 of their sums, and whether digits are lost."""
    value = tl.arange(0, padded(K))[None, :]
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, n_variables, 16):
        variable = start + tl.arange(0, 16)[:, None]
        real = variable < n_variables
        inside = real & (value < K)
        belief = tl.load(board.prior + variable * K + value, mask=inside, other=zero(LOG))
        degree = tl.where(as_prior == 0, tl.load(board.degree + variable, mask=real, other=0), 0)
        for i in range(tl.max(tl.max(degree, 1), 0)):
            edge = tl.load(board.incident + variable * board.n_groups + i, mask=i < degree, other=0)
            pointers = board.messages + ((sweep & 1) * board.n_groups * board.width + edge) * K + value
            belief = times(belief, tl.load(pointers, mask=inside & (i < degree), other=one(LOG)), LOG)
        sums = total(belief, 1, LOG, False)
        failed |= tl.max(tl.max(tl.where(real & lost(sums, LOG), 1, 0), 1), 0)
        evidence += tl.sum(tl.sum(tl.where(real, log2_of(sums, LOG), 0.0), 1), 0)
        tl.store(out_ptr + variable * K + value, probability(over(belief, sums, LOG), LOG), mask=inside)
    return evidence, failed


@triton.jit
def _row_by_groups(
    logits_ptr, label, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, board, phase_end_ptr,
    bounding_ptr, n_variables, iterations, damping, tolerance, ROWS: tl.constexpr, K: tl.constexpr,
    LANES: tl.constexpr, LOG: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """One row of the batch, from logits to results."""
    code = store_prior(logits_ptr, board.prior, n_variables, K, padded(K), 16, LOG)
    code = tl.maximum(code, tl.where((label == 0) | (label == 1), 0, 3))
    store_ones(board.messages, board.n_groups * board.width * K, LOG)
    tl.debug_barrier()
    sweep = 0
    change = tl.zeros((), board.prior.dtype.element_ty)
    failed = 0
    certain = 0
    going = (code == 0) & (iterations > 0)
    while going:
        change, failed, certain = _run_phases(
            board, phase_end_ptr, bounding_ptr, sweep, damping, (label == 0) & (not MAX), ROWS, K, LANES, LOG, MAX
        )
        sweep += 1
        going = (sweep < iterations) & (change >= tolerance) & ((failed | certain) == 0)
    evidence = tl.zeros((), tl.float64)
    if (code == 0) & ((failed | certain) == 0):
        evidence, failed = _factor_evidence(board, sweep, ROWS, K, LANES, LOG)
    as_prior = tl.where((code > 0) | ((failed | certain) == 1), 1, 0)
    sums, lost_belief = _store_beliefs(board, out_ptr, sweep, n_variables, as_prior, K, LOG)
    if (as_prior == 0) & (lost_belief == 1):
        failed = 1
        _store_beliefs(board, out_ptr, sweep, n_variables, 1, K, LOG)
    evidence = tl.where(MAX, 0.0, (evidence + sums) * LN_2)
    store_outcome(
        evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, code, failed, certain, evidence, sweep, change
    )


@triton.jit(do_not_specialize=["batch", "n_variables", "n_groups", "width", "iterations"])
def belief_propagation_kernel(
    logits_ptr, label_ptr, groups_ptr, incident_ptr, degree_ptr, phase_end_ptr, bounding_ptr, subsets_ptr,
    scratch_ptr, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, batch, n_variables, n_groups,
    width, iterations, damping_high, damping_low, tolerance, ROWS: tl.constexpr, K: tl.constexpr, LANES: tl.constexpr,
    MAX: tl.constexpr,
):  # fmt: skip
    """Rows of the batch one after another, ROWS groups at a time; scratch in float64: only rows with `redo`, in log2.

    Grid (programs,), row i to program i mod programs. logits and out [batch, N, K]; scratch [programs, ...] as in Board.
    """
    LOG: tl.constexpr = (
        0 if scratch_ptr.dtype.element_ty == tl.float32 else 1 if out_ptr.dtype.element_ty == tl.float32 else 2
    )
    prior_size = n_variables * K
    messages_size = 2 * n_groups * width * K
    fixed = ROWS * (padded(K) * padded(K) + 2 * (2 << K))
    scratch_ptr += tl.program_id(0).to(tl.int64) * (prior_size + messages_size + fixed)
    incoming = scratch_ptr + prior_size + messages_size
    tables = incoming + ROWS * padded(K) * padded(K)
    board = Board(
        scratch_ptr, scratch_ptr + prior_size, incoming, tables, tables + ROWS * (2 << K), groups_ptr, incident_ptr,
        degree_ptr, subsets_ptr, n_groups, width,
    )  # fmt: skip
    clear_tables(board, ROWS, K, LANES, 2 << K, LOG)
    damping = tl.zeros((), scratch_ptr.dtype.element_ty) + damping_high + damping_low
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + i
        wanted = 1
        if LOG:
            wanted = tl.load(redo_ptr + row).to(tl.int32)
        if wanted == 1:
            offset = row * n_variables * K
            tl.debug_barrier()
            _row_by_groups(
                logits_ptr + offset, tl.load(label_ptr + row), out_ptr + offset, evidence_ptr + row, status_ptr + row,
                sweeps_ptr + row, change_ptr + row, redo_ptr + row, board, phase_end_ptr, bounding_ptr, n_variables,
                iterations, damping, tolerance, ROWS, K, LANES, LOG, MAX,
            )  # fmt: skip
