"""Runs loopy belief propagation on any factor graph, a few rows of the batch at a time; see the reference.

A sweep goes through waves of factors that share no variable and have one kind: all of a wave at once, a thread each.
Rows in which float32 loses digits are marked in `redo`, for a launch that computes with float64 logarithms.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.factor_graph_tables import CHAIN as CHAIN_NUMBER
from emnesy_gpu.kernels.factor_graph_tables import PARITY as PARITY_NUMBER
from emnesy_gpu.kernels.gpu.common.belief_rows import Rows, Schedule
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, POSSIBLE
from emnesy_gpu.kernels.gpu.factor_graph.chains import send_chain, send_parity
from emnesy_gpu.kernels.gpu.factor_graph.graph import (
    WAVE_SIZES,
    Chains,
    Graph,
    Queue,
    Sent,
    Space,
    Turn,
    Wave,
    in_sweep,
    max_over_slots,
    row_of,
    slot_of,
    sum_over_slots,
    work_of,
)
from emnesy_gpu.kernels.gpu.factor_graph.messages import both, lanes_of, nothing_sent, send_pair, send_pair_of_bits
from emnesy_gpu.kernels.gpu.factor_graph.residual import (
    clear_residuals,
    end_turn,
    keep_messages,
    largest_residual,
    next_factor,
)
from emnesy_gpu.kernels.gpu.factor_graph.rows import load_priors, start_messages, store_beliefs, store_priors

CHAIN = tl.constexpr(CHAIN_NUMBER)
PARITY = tl.constexpr(PARITY_NUMBER)


@triton.jit
def wave_at(waves, wave_sizes, w, SIZES: tl.constexpr):
    """The factors [L] of a wave, which of them there are, and what is the same for all."""
    f = tl.load(waves + w * SIZES.width + slot_of(SIZES), mask=slot_of(SIZES) < SIZES.width, other=-1)
    kind = tl.load(wave_sizes + WAVE_SIZES * w)
    arity = tl.load(wave_sizes + WAVE_SIZES * w + 1)
    degree = tl.load(wave_sizes + WAVE_SIZES * w + 2)
    return tl.maximum(f, 0), f >= 0, Wave(kind, arity, degree, tl.load(wave_sizes + WAVE_SIZES * w + 3))


@triton.jit
def _send(graph, chains, work, f, live, wave, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The messages of a wave."""
    sent = nothing_sent(work, SIZES)
    if wave.kind == PARITY:
        sent = send_parity(graph, work, f, live, wave, turn, SIZES, LOG)
    elif wave.kind == CHAIN:
        if SIZES.chained:
            sent = send_chain(graph, chains, work, f, live, wave, turn, SIZES, LOG)
    else:
        if SIZES.paired:
            if SIZES.bits:
                sent = send_pair_of_bits(graph, work, f, live, wave, turn, SIZES, LOG)
            else:
                sent = send_pair(graph, work, f, live, wave, turn, SIZES, LOG)
    return sent


@triton.jit
def _sweep(graph, chains, work, waves, queue, sweep, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """All factors once: the largest change of each row, whether a sum of it is lost, and the terms of each thread.

    waves: a table, its sizes, and how many there are. By residuals, so many renewals, but for the Bethe terms.
    """
    sent = nothing_sent(work, SIZES)
    for w in range(waves[2]):
        if SIZES.residual:
            if turn.scoring:
                f, live, wave = wave_at(waves[0], waves[1], w, SIZES)
            else:
                f, live, wave = next_factor(graph, queue, sweep, w, SIZES)
                keep_messages(graph, work, queue, tl.max(f, 0), SIZES)
                tl.debug_barrier()
        else:
            f, live, wave = wave_at(waves[0], waves[1], w, SIZES)
        sent = both(sent, _send(graph, chains, work, f, live, wave, turn, SIZES, LOG))
        tl.debug_barrier()
        if SIZES.residual:
            end_turn(graph, work, queue, tl.max(f, 0), turn, SIZES, LOG)
    change = max_over_slots(sent.change, SIZES)
    if SIZES.residual:
        change = tl.maximum(change, largest_residual(queue, SIZES)[0])
    return Sent(change, max_over_slots(sent.failed.to(tl.int32), SIZES), sent.terms)


@triton.jit
def _label_status(label):
    """INVALID_LABEL unless all factors hold, 1, or nothing is said, -1."""
    return tl.where((label == 1) | (label == -1), POSSIBLE, INVALID_LABEL)


@triton.jit
def run_rows(
    graph, chains, work, rows, row, wanted, order, flood, queue, schedule, log_scale, SIZES: tl.constexpr,
    LOG: tl.constexpr,
):  # fmt: skip
    """Rows [L] of the batch, from logits to results. order, flood: waves, their sizes, and how many there are."""
    offset = row * graph.n_variables * graph.n_values
    code = load_priors(graph, work, rows.logits + offset, wanted, SIZES, LOG)
    code = tl.maximum(code, _label_status(tl.load(rows.label + row, mask=wanted, other=1)))
    start_messages(graph, work, SIZES, LOG)
    if SIZES.residual:
        clear_residuals(queue, SIZES)
    tl.debug_barrier()
    sweep = 0
    change = lanes_of(0.0, work, SIZES)
    failed = tl.full((SIZES.lanes,), 0, tl.int32)
    sweeps = tl.full((SIZES.lanes,), 0, tl.int32)
    terms = tl.full((SIZES.lanes,), 0, tl.float64)
    active = wanted & (code == POSSIBLE) & (sweeps < schedule.iterations)
    scoring = tl.max(active.to(tl.int32)) == 0
    going = True
    while going:
        # The last turn renews nothing, and goes through all factors once for the Bethe terms.
        turn = Turn(active, schedule.damping, scoring)
        waves = flood[0] if scoring else order[0]
        wave_sizes = flood[1] if scoring else order[1]
        n_waves = flood[2] if scoring else order[2]
        way = in_sweep(work, graph, sweep, SIZES)
        sent = _sweep(graph, chains, way, (waves, wave_sizes, n_waves), queue, sweep, turn, SIZES, LOG)
        going = not scoring
        counted = active | scoring
        failed |= tl.where(counted, sent.failed, 0)
        terms = sent.terms
        sweep += 0 if scoring else 1
        change = tl.where(active, sent.change, change)
        sweeps = tl.where(active, sweep, sweeps)
        active = active & (sweeps < schedule.iterations) & (change >= schedule.tolerance) & (failed == 0)
        scoring = tl.max(active.to(tl.int32)) == 0
    way = in_sweep(work, graph, sweep, SIZES)
    beliefs, lost_belief = store_beliefs(graph, way, rows.marginals + offset, wanted, SIZES, LOG)
    possible = code == POSSIBLE
    failed = tl.where(possible, failed | max_over_slots(lost_belief.to(tl.int32), SIZES), 0)
    evidence = sum_over_slots(terms + beliefs, SIZES) * LN_2 + log_scale
    as_prior = wanted & ((code > POSSIBLE) | (failed == 1))
    if tl.max(as_prior.to(tl.int32)) == 1:
        tl.debug_barrier()
        store_priors(graph, work, rows.logits + offset, rows.marginals + offset, as_prior, SIZES, LOG)
    _store_outcome(rows, row, wanted & (slot_of(SIZES) == 0), code, failed, evidence, sweeps, change, SIZES)


@triton.jit
def _store_outcome(rows, row, first, code, failed, evidence, sweeps, change, SIZES: tl.constexpr):
    """The results of rows but for the marginals, by the first thread of each. failed: no digits left, or impossible."""
    possible = (code == POSSIBLE) & (failed == 0)
    evidence = tl.where(possible, evidence * 0.0 if SIZES.maximise else evidence, float("-inf"))
    tl.store(rows.evidence + row, evidence, mask=first)
    tl.store(rows.status + row, tl.where(code == POSSIBLE, failed * IMPOSSIBLE, code).to(tl.uint8), mask=first)
    tl.store(rows.sweeps + row, tl.where(possible, sweeps, 0), mask=first)
    tl.store(rows.change + row, tl.where(possible, change, 0.0), mask=first)
    tl.store(rows.redo + row, failed.to(tl.uint8), mask=first)


@triton.jit(do_not_specialize=[
    "n_order", "n_flood", "batch", "n_variables", "n_edges", "n_values", "arity", "n_states", "layer_states", "n_classes",
    "n_updates", "n_factors", "iterations",
])  # fmt: skip
def belief_propagation_kernel(
    logits_ptr, label_ptr, size_ptr, unary_ptr, first_ptr, variable_ptr, which_ptr, pairs_ptr, incident_ptr,
    incident_first_ptr, layer_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_target_ptr,
    in_weight_ptr, out_first_ptr, out_source_ptr, out_class_ptr, out_target_ptr, out_weight_ptr, order_ptr,
    order_sizes_ptr, flood_ptr, flood_sizes_ptr, turns_ptr, factor_sizes_ptr, owner_ptr, log_scale_ptr, chain_scale_ptr,
    scratch_ptr, residual_ptr, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, n_order, n_flood,
    batch, n_variables, n_edges, n_values, arity, n_states, layer_states, n_classes, n_updates, n_factors, iterations, damping_high, damping_low, tolerance, SIZES: tl.constexpr,
):  # fmt: skip
    """R rows of the batch after another R; with float64 scratch only rows with redo, in log2.

    Grid (programs,), rows i R to i R + R - 1 to program i mod programs. logits and out [batch, n, K]; scratch as in
    Work, for each program; residual [programs, F + A K] by residuals, else never read; other shapes as in Graph, Chains, `factor_graphs.waves` and Rows.
    """
    # Written out in the kernel: a function's result is no compile-time constant in Triton 3.6.
    LOG: tl.constexpr = (
        0 if scratch_ptr.dtype.element_ty == tl.float32 else 1 if out_ptr.dtype.element_ty == tl.float32 else 2
    )
    graph = Graph(
        size_ptr, unary_ptr, first_ptr, variable_ptr, which_ptr, pairs_ptr, incident_ptr, incident_first_ptr,
        n_variables, n_edges, n_values,
    )  # fmt: skip
    chains = Chains(
        layer_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_target_ptr, in_weight_ptr, out_first_ptr,
        out_source_ptr, out_class_ptr, out_target_ptr, out_weight_ptr, layer_states, n_classes,
    )  # fmt: skip
    rows = Rows(logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr)
    work = work_of(scratch_ptr, graph, Space(n_values, arity, n_states, n_classes), SIZES)
    residual = residual_ptr + tl.program_id(0).to(tl.int64) * (n_factors + arity * n_values)
    queue = Queue(
        turns_ptr, factor_sizes_ptr, owner_ptr, residual, residual + n_factors, n_updates, n_factors
    )  # fmt: skip
    order = (order_ptr, order_sizes_ptr, n_order)
    flood = (flood_ptr, flood_sizes_ptr, n_flood)
    damping = tl.zeros((), scratch_ptr.dtype.element_ty) + damping_high + damping_low
    schedule = Schedule(iterations, damping, tolerance)
    log_scale = tl.load(log_scale_ptr) + tl.load(chain_scale_ptr)
    R: tl.constexpr = SIZES.rows
    for tile in range(tl.program_id(0), tl.cdiv(batch, R), tl.num_programs(0)):
        row = tl.full((SIZES.lanes,), 0, tl.int64) + tile * R + row_of(SIZES)
        wanted = row < batch
        if LOG:
            wanted = tl.load(redo_ptr + row, mask=wanted, other=0) == 1
        if tl.max(wanted.to(tl.int32)) == 1:
            tl.debug_barrier()
            run_rows(
                graph, chains, work, rows, row, wanted, order, flood, queue, schedule, log_scale, SIZES, LOG
            )  # fmt: skip
