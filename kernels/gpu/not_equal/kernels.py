"""Loopy belief propagation with pairwise not-equal factors, a row of the batch at a time; contract in reference."""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2
from emnesy_gpu.kernels.gpu.common.sum_product import (
    complement,
    constant,
    log2_of,
    lost,
    mixture,
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


class Board(NamedTuple):
    """Where a program keeps one row of the batch, and the shared tables. Messages are probabilities times K."""

    prior: object  # [N, K]
    messages: object  # [2, N, D, K]: to a variable from its neighbours, those of sweep t at t % 2
    after: object  # [D, TILE, PADDED]: the prior times the messages after each neighbour's
    neighbours: object  # [N, D]
    reverse: object  # [N, D]
    order: object  # [N]
    position: object  # [N]: the inverse of order
    n_variables: object
    degree: object


@triton.jit
def _message(board, variable, s, sweep, updated, value, K: tl.constexpr, LOG: tl.constexpr):
    """From the neighbour in slot s, ones where there is none; variables before `updated` in order are a sweep ahead."""
    slot = variable * board.degree + s
    neighbour = tl.load(board.neighbours + slot, mask=variable >= 0, other=-1)
    real = neighbour >= 0
    place = tl.load(board.position + neighbour, mask=real, other=0)
    turn = (sweep + tl.where(place < updated, 1, 0)) & 1
    pointers = board.messages + (turn * board.n_variables * board.degree + slot) * K + value
    return tl.load(pointers, mask=real & (value < K), other=one(LOG)), neighbour


@triton.jit
def _product(
    board, variable, sweep, updated, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """The prior times all messages [TILE, PADDED]; leaves what comes after each slot in `after`."""
    value = tl.arange(0, PADDED)[None, :]
    entry = tl.arange(0, TILE)[:, None] * PADDED + value
    product = tl.load(board.prior + variable * K + value, mask=(variable >= 0) & (value < K), other=zero(LOG))
    tl.debug_barrier()
    for back in range(board.degree):
        s = board.degree - 1 - back
        tl.store(board.after + s * (TILE * PADDED) + entry, product)
        message, neighbour = _message(board, variable, s, sweep, updated, value, K, LOG)
        product = times(product, message, LOG)
    tl.debug_barrier()
    return product


@triton.jit
def _cavity(
    board, before, s, neighbour, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """q towards the neighbour in slot s, and whether it is lost; call it with the message products before s."""
    value = tl.arange(0, PADDED)[None, :]
    after = tl.load(board.after + (s * TILE + tl.arange(0, TILE)[:, None]) * PADDED + value)
    q = tl.where(value < K, times(before, after, LOG), zero(LOG))
    sums = total(q, 1, LOG, False)
    return over(q, sums, LOG), tl.max(tl.max(tl.where((neighbour >= 0) & lost(sums, LOG), 1, 0), 1), 0)


@triton.jit
def _update(
    board, first, end, sweep, updated, damping, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr,
    LOG: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """Outgoing messages of the variables [first, end) in order; their largest change, and whether one was lost."""
    value = tl.arange(0, PADDED)[None, :]
    row = first + tl.arange(0, TILE)[:, None]
    variable = tl.load(board.order + row, mask=row < end, other=-1)
    _product(board, variable, sweep, updated, K, PADDED, TILE, LOG)
    before = tl.zeros((TILE, PADDED), board.prior.dtype.element_ty) + one(LOG)
    step = board.n_variables * board.degree * K
    change = tl.zeros((), board.prior.dtype.element_ty)
    failed = 0
    for s in range(board.degree):
        message, neighbour = _message(board, variable, s, sweep, updated, value, K, LOG)
        q, lost_cavity = _cavity(board, before, s, neighbour, K, PADDED, TILE, LOG)
        before = times(before, message, LOG)
        new = tl.where(value < K, complement(q, LOG, MAX), zero(LOG))
        sums = total(new, 1, LOG, False)
        real = neighbour >= 0
        failed |= lost_cavity | tl.max(tl.max(tl.where(real & lost(sums, LOG), 1, 0), 1), 0)
        new = times(over(new, sums, LOG), constant(tl.full((1, 1), K, tl.int32), new, LOG), LOG)
        there = tl.load(board.reverse + variable * board.degree + s, mask=real, other=0)
        pointers = board.messages + (neighbour * board.degree + there) * K + value
        inside = real & (value < K)
        old = tl.load(pointers + (sweep & 1) * step, mask=inside, other=one(LOG))
        new = mixture(new, old, damping, LOG)
        tl.store(pointers + (1 - (sweep & 1)) * step, new, mask=inside)
        difference = tl.where(inside, tl.abs(probability(new, LOG) - probability(old, LOG)), 0.0) * (1.0 / K)
        change = tl.maximum(change, tl.max(tl.max(difference, 1), 0))
    return change, failed


@triton.jit
def _variable_terms(
    board, out_ptr, sweep, as_prior, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """Beliefs, or the prior; log2 of their sums less those of the pairs (q, message), and whether one is lost.

    Leaves every q where the message from that neighbour would be in the next sweep.
    """
    value = tl.arange(0, PADDED)[None, :]
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, board.n_variables, TILE):
        row = start + tl.arange(0, TILE)[:, None]
        exists = row < board.n_variables
        variable = tl.where(exists, row, -1)
        inside = exists & (value < K)
        belief = _product(board, variable, sweep, 0, K, PADDED, TILE, LOG)
        sums = total(belief, 1, LOG, False)
        failed |= tl.max(tl.max(tl.where(exists & lost(sums, LOG), 1, 0), 1), 0)
        evidence += tl.sum(tl.sum(tl.where(exists, log2_of(sums, LOG), 0.0), 1), 0)
        prior = tl.load(board.prior + variable * K + value, mask=inside, other=zero(LOG))
        belief = tl.where(as_prior == 1, prior, over(belief, sums, LOG))
        tl.store(out_ptr + variable * K + value, probability(belief, LOG), mask=inside)
        before = tl.zeros((TILE, PADDED), board.prior.dtype.element_ty) + one(LOG)
        for s in range(board.degree):
            message, neighbour = _message(board, variable, s, sweep, 0, value, K, LOG)
            q, lost_cavity = _cavity(board, before, s, neighbour, K, PADDED, TILE, LOG)
            before = times(before, message, LOG)
            pairs = total(tl.where(value < K, times(q, message, LOG), zero(LOG)), 1, LOG, False)
            real = neighbour >= 0
            failed |= lost_cavity | tl.max(tl.max(tl.where(real & lost(pairs, LOG), 1, 0), 1), 0)
            evidence -= tl.sum(tl.sum(tl.where(real, log2_of(pairs, LOG), 0.0), 1), 0)
            slot = (1 - (sweep & 1)) * board.n_variables * board.degree + variable * board.degree + s
            tl.store(board.messages + slot * K + value, q, mask=real & (value < K))
    return evidence, failed


@triton.jit
def _edge_terms(board, sweep, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, LOG: tl.constexpr):
    """log2 of sum_{u != v} q(u) q'(v) over all edges, from what _variable_terms left; and whether one is lost."""
    value = tl.arange(0, PADDED)[None, :]
    cavities = board.messages + (1 - (sweep & 1)) * board.n_variables * board.degree * K + value
    evidence = tl.zeros((), tl.float64)
    failed = 0
    for start in range(0, board.n_variables, TILE):
        variable = start + tl.arange(0, TILE)[:, None]
        for s in range(board.degree):
            slot = variable * board.degree + s
            neighbour = tl.load(board.neighbours + slot, mask=variable < board.n_variables, other=-1)
            once = neighbour > variable
            inside = once & (value < K)
            there = neighbour * board.degree + tl.load(board.reverse + slot, mask=once, other=0)
            q = tl.load(cavities + slot * K, mask=inside, other=zero(LOG))
            opposite = tl.load(cavities + there * K, mask=inside, other=zero(LOG))
            pairs = times(complement(q, LOG, False), opposite, LOG)
            pairs = total(tl.where(value < K, pairs, zero(LOG)), 1, LOG, False)
            failed |= tl.max(tl.max(tl.where(once & lost(pairs, LOG), 1, 0), 1), 0)
            evidence += tl.sum(tl.sum(tl.where(once, log2_of(pairs, LOG), 0.0), 1), 0)
    return evidence, failed


@triton.jit
def _row_by_pairs(
    logits_ptr, label, out_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, board, phase_end_ptr,
    iterations, damping, tolerance, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, LOG: tl.constexpr,
    MAX: tl.constexpr,
):  # fmt: skip
    """One row of the batch, from logits to results."""
    code = store_prior(logits_ptr, board.prior, board.n_variables, K, PADDED, TILE, LOG)
    code = tl.maximum(code, tl.where((label == 0) | (label == 1), 0, 3))
    store_ones(board.messages, board.n_variables * board.degree * K, LOG)
    tl.debug_barrier()
    sweep = 0
    change = tl.zeros((), board.prior.dtype.element_ty)
    failed = 0
    going = (code == 0) & (iterations > 0)
    while going:
        change = tl.zeros((), board.prior.dtype.element_ty)
        updated = 0
        while updated < board.n_variables:
            end = tl.load(phase_end_ptr + updated)
            for first in range(updated, end, TILE):
                difference, lost_message = _update(
                    board, first, end, sweep, updated, damping, K, PADDED, TILE, LOG, MAX
                )  # fmt: skip
                change = tl.maximum(change, difference)
                failed |= lost_message
            tl.debug_barrier()
            updated = tl.where(failed == 1, board.n_variables, end)
        sweep += 1
        going = (sweep < iterations) & (change >= tolerance) & (failed == 0)
    as_prior = tl.where((code > 0) | (failed == 1), 1, 0)
    evidence, lost_term = _variable_terms(board, out_ptr, sweep, as_prior, K, PADDED, TILE, LOG)
    tl.debug_barrier()
    edges, lost_edge = _edge_terms(board, sweep, K, PADDED, TILE, LOG)
    if (as_prior == 0) & ((lost_term | lost_edge) == 1):
        failed = 1
        tl.debug_barrier()
        _variable_terms(board, out_ptr, sweep, 1, K, PADDED, TILE, LOG)
    evidence = tl.where(MAX, 0.0, (evidence + edges) * LN_2)
    store_outcome(evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, code, failed, 0, evidence, sweep, change)


@triton.jit(do_not_specialize=["batch", "n_variables", "degree", "iterations"])
def pairwise_kernel(
    logits_ptr, label_ptr, neighbours_ptr, reverse_ptr, order_ptr, position_ptr, phase_end_ptr, scratch_ptr, out_ptr,
    evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr, batch, n_variables, degree, iterations, damping_high,
    damping_low, tolerance, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    """Rows of the batch one after another, TILE variables at a time; scratch in float64: only rows with `redo`, in log2.

    Grid (programs,), row i to program i mod programs. logits and out [batch, N, K]; scratch [programs, ...] as in Board.
    """
    LOG: tl.constexpr = (
        0 if scratch_ptr.dtype.element_ty == tl.float32 else 1 if out_ptr.dtype.element_ty == tl.float32 else 2
    )
    prior_size = n_variables * K
    messages_size = 2 * n_variables * degree * K
    scratch_ptr += tl.program_id(0).to(tl.int64) * (prior_size + messages_size + degree * TILE * PADDED)
    board = Board(
        scratch_ptr, scratch_ptr + prior_size, scratch_ptr + prior_size + messages_size, neighbours_ptr, reverse_ptr,
        order_ptr, position_ptr, n_variables, degree,
    )  # fmt: skip
    damping = tl.zeros((), scratch_ptr.dtype.element_ty) + damping_high + damping_low
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + i
        wanted = 1
        if LOG:
            wanted = tl.load(redo_ptr + row).to(tl.int32)
        if wanted == 1:
            offset = row * n_variables * K
            tl.debug_barrier()
            _row_by_pairs(
                logits_ptr + offset, tl.load(label_ptr + row), out_ptr + offset, evidence_ptr + row, status_ptr + row,
                sweeps_ptr + row, change_ptr + row, redo_ptr + row, board, phase_end_ptr, iterations, damping,
                tolerance, K, PADDED, TILE, LOG, MAX,
            )  # fmt: skip
