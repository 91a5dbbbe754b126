"""Sum-product on an automaton: a program takes R rows of the batch, states along its tile, positions in turn.

With P_i(c) the prior of the values of class c, o_i what the label says about states, and weights w of edges,

    alpha_i(t) = o_i(t) / z_i  sum over edges (s, c, t) of w P_i(c) alpha_{i-1}(s)        z_i: so that alpha_i sums to 1
    beta_{i-1}(s) = 1 / y_i  sum over edges (s, c, t) of w P_i(c) o_i(t) beta_i(t)
    r_i(c) = sum over edges (s, c, t) of w alpha_{i-1}(s) o_i(t) beta_i(t)                  y_i = sum_c P_i(c) r_i(c)

the evidence is the product of the z_i, and the posterior of a value p_i r_i / y_i. Both sums are pulled: alpha along the
edges into a state, beta along the edge that a class has out of it. Vectors of states lie in scratch memory, which the
first-level cache holds, with the R rows of a state side by side, so that one load takes four of them. Sums over states
for r_i are finished for a chunk of classes at once.

In float32 an edge loses at most 2^-126. As alpha_i beta_i sums to 1, S C of them are less than 1e-6 of a long chain if
neither 1 / y_i nor beta_i / y_i exceeds LARGEST; other rows are marked, and repeated with float64 logarithms.
alpha waits in blocks of positions, and is computed again from the start of each block but the last.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.backward import backward
from emnesy_gpu.kernels.gpu.automaton.forward import forward, log2_of_scales
from emnesy_gpu.kernels.gpu.automaton.machine import Machine, layer_at
from emnesy_gpu.kernels.gpu.automaton.symbols import (
    label_status,
    store_class_weights,
    weight_of,
)
from emnesy_gpu.kernels.gpu.automaton.vectors import (
    clear_nowhere,
    load_vector,
    rest_at,
    rows_of,
    scaled,
    states_of,
    store_vector,
    vector_at,
    work_of,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import one, probability, times, zero
from emnesy_gpu.kernels.gpu.common.symbol_priors import Batch, store_priors

LARGEST = tl.constexpr(1.0e24)


class Out(NamedTuple):
    """Where results go."""

    marginals: object  # [batch, n, K]
    symbol: object  # int64 [n], the symbol that each position reads, if SIZES.ordered


@triton.jit
def _rest_of_values(work, machine, item, layer, exists, SIZES: tl.constexpr, LOG: tl.constexpr):
    """r of the class of each item [ITEMS, R], an item being a position and a value; zero without a class."""
    row = tl.arange(0, SIZES.rows)[None, :]
    j = item // SIZES.n_values
    value = item % SIZES.n_values
    if SIZES.single:
        klass = value
    else:
        # Read by every thread that needs it, so that no thread has to pass it on.
        at = tl.broadcast_to(machine.classes + layer * SIZES.n_values + value, (SIZES.items, SIZES.rows))
        klass = tl.load(at, mask=exists, other=-1)
        klass = tl.where(klass < 0, SIZES.n_classes, klass)
    return tl.load(rest_at(work, j, klass, SIZES) + row, mask=exists, other=zero(LOG))


@triton.jit
def _store_results(
    work, batch, machine, out, first, count, scale, SIZES: tl.constexpr, GRADIENT: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """Marginals, or the gradient, of the symbols of a block."""
    K: tl.constexpr = SIZES.n_values
    R: tl.constexpr = SIZES.rows
    row = tl.arange(0, R)[None, :]
    if SIZES.ordered:
        own_ptr = out.marginals + (batch.first + row) * batch.n * K
    else:
        own_ptr = out.marginals + ((batch.first + row) * batch.n + first) * K
    tl.debug_barrier()
    for start in tl.range(0, count * K, SIZES.items, disable_licm=True):
        item = start + tl.arange(0, SIZES.items)[:, None]
        exists = item < count * K
        layer = layer_at(machine, tl.where(exists, first + item // K, first), SIZES)
        prior = tl.load(work.prior + item * R + row, mask=exists, other=zero(LOG))
        rest = _rest_of_values(work, machine, item, layer, exists, SIZES, LOG)
        divided_by = tl.load(work.scale + (item // K) * R + row, mask=exists, other=one(LOG))
        result = scaled(times(prior, rest, LOG), divided_by, LOG)
        kept = tl.load(work.kept + row + item * 0) > 0.0
        result = probability(tl.where(kept, prior, result), LOG)
        if GRADIENT:
            result = (probability(prior, LOG) - result) * scale
        at = item
        if SIZES.ordered:
            at = tl.load(out.symbol + first + item // K, mask=exists, other=0) * K + item % K
        tl.store(own_ptr + at, result, mask=exists & (batch.first + row < batch.size))
    tl.debug_barrier()


@triton.jit
def _read_block(work, batch, machine, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Priors of values and classes of a block of positions; INVALID_LOGITS or POSSIBLE [1, R]."""
    code = store_priors(work.prior, batch, first, count, SIZES, LOG)
    tl.debug_barrier()
    if not SIZES.single:
        store_class_weights(work.weight, work.prior, machine, first, count, SIZES, LOG, False)
        tl.debug_barrier()
    return code


@triton.jit
def _store_start(work, machine, SIZES: tl.constexpr, LOG: tl.constexpr):
    """alpha before the first position."""
    COMPUTE: tl.constexpr = work.alpha.dtype.element_ty
    state = states_of(SIZES)
    alpha = tl.load(machine.start + state + 0 * rows_of(SIZES), mask=state < SIZES.n_states, other=0.0)
    store_vector(work.starts, weight_of(alpha, LOG, COMPUTE), SIZES)


@triton.jit
def _rows(
    work, batch, machine, out, scale, block, SIZES: tl.constexpr, GRADIENT: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """R rows: stores their marginals, and returns log2 of the evidence, the status, and which rows to repeat [1, R].

    Blocks of positions from the first to the last, and then backwards; the last is computed once.
    """
    COMPUTE: tl.constexpr = work.alpha.dtype.element_ty
    evidence = tl.full((1, SIZES.rows), 0, tl.float64)
    dead = tl.full((1, SIZES.rows), 0, tl.int32)
    code = label_status(batch, machine, SIZES)
    beta = tl.zeros_like(states_of(SIZES) + rows_of(SIZES)).to(COMPUTE) + one(LOG)
    largest = tl.zeros_like(beta) + 1.0
    _store_start(work, machine, SIZES, LOG)
    last = tl.cdiv(batch.n, block) - 1
    for step in tl.range(2 * last + 1, disable_licm=True):
        index = tl.minimum(step, 2 * last - step)
        first = index * block
        count = tl.minimum(batch.n - first, block)
        code = tl.maximum(code, _read_block(work, batch, machine, first, count, SIZES, LOG))
        alpha = load_vector(vector_at(work.starts, index, SIZES), SIZES, LOG)
        alpha = forward(work, batch, machine, alpha, first, count, SIZES, LOG)
        if step <= last:
            more, nothing = log2_of_scales(work, count, SIZES, LOG)
            evidence += more
            dead = tl.maximum(dead, nothing)
            tl.debug_barrier()
        if step < last:
            store_vector(vector_at(work.starts, index + 1, SIZES), alpha, SIZES)
        else:
            kept = (code > POSSIBLE) | (dead > 0)
            tl.store(work.kept + tl.arange(0, SIZES.rows)[None, :], kept.to(COMPUTE))
            beta, largest = backward(work, batch, machine, beta, largest, first, count, SIZES, LOG)
            _store_results(work, batch, machine, out, first, count, scale, SIZES, GRADIENT, LOG)
    drowned = dead
    if not LOG:
        highest = tl.reshape(tl.max(largest, 1), (1, SIZES.rows))
        drowned = tl.maximum(dead, tl.where(highest <= LARGEST, 0, 1))
    return evidence, code, drowned


@triton.jit
def _store_outcome(
    evidence_ptr, status_ptr, redo_ptr, batch, log_scale, evidence, code, drowned, SIZES: tl.constexpr,
    LOG: tl.constexpr,
):  # fmt: skip
    """The log evidence, the status, and the mark of rows that the next launch repeats."""
    row = batch.first + tl.arange(0, SIZES.rows)[None, :]
    possible = (code == POSSIBLE) & (drowned == 0)
    evidence = tl.where(possible, evidence * LN_2 + log_scale, float("-inf"))
    code = tl.where((code == POSSIBLE) & (drowned > 0), IMPOSSIBLE, code)
    tl.store(evidence_ptr + row, evidence.to(evidence_ptr.dtype.element_ty), mask=row < batch.size)
    tl.store(status_ptr + row, code.to(tl.uint8), mask=row < batch.size)
    if not LOG:
        tl.store(redo_ptr + row, (code == IMPOSSIBLE).to(tl.uint8), mask=row < batch.size)


@triton.jit(do_not_specialize=["batch", "n", "block", "n_entries", "n_emissions"])
def posterior_kernel(
    logits_ptr, label_ptr, layer_ptr, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr,
    class_values_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_weight_ptr, out_first_ptr, out_class_ptr,
    out_target_ptr, out_weight_ptr, start_ptr, entry_ptr, emissions_ptr, log_scale_ptr, scratch_ptr, symbol_ptr, out_ptr,
    evidence_ptr, status_ptr, redo_ptr, batch, n, block, n_entries, n_emissions, scale_high, scale_low,
    SIZES: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """Groups of R rows one after another; scratch in float64: only rows with `redo`, in log2.

    Grid (programs,), group g to program g mod programs. logits and out [batch, n, K]; label int32 [batch, M]; scratch
    [programs, ...] as in Work; symbol as in Out; the tables as in Machine.
    """
    LOG: tl.constexpr = (
        0 if scratch_ptr.dtype.element_ty == tl.float32 else 1 if out_ptr.dtype.element_ty == tl.float32 else 2
    )
    machine = Machine(
        layer_ptr, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr, class_values_ptr, in_first_ptr,
        in_source_ptr, in_class_ptr, in_weight_ptr, out_first_ptr, out_class_ptr, out_target_ptr, out_weight_ptr,
        start_ptr, entry_ptr, emissions_ptr, n_entries, n_emissions,
    )  # fmt: skip
    out = Out(out_ptr, symbol_ptr)
    work = work_of(scratch_ptr, n, block, SIZES)
    clear_nowhere(work, block, SIZES, LOG)
    scale = tl.zeros((), scratch_ptr.dtype.element_ty) + scale_high + scale_low
    log_scale = tl.load(log_scale_ptr)
    for group in tl.range(tl.program_id(0), tl.cdiv(batch, SIZES.rows), tl.num_programs(0), disable_licm=True):
        first = (tl.zeros((), tl.int64) + group) * SIZES.rows
        wanted = 1
        if LOG:
            wanted = tl.load(redo_ptr + first).to(tl.int32)
        if wanted == 1:
            rows = Batch(logits_ptr, label_ptr, first, batch, n)
            tl.debug_barrier()
            evidence, code, drowned = _rows(work, rows, machine, out, scale, block, SIZES, GRADIENT, LOG)
            _store_outcome(
                evidence_ptr, status_ptr, redo_ptr, rows, log_scale, evidence, code, drowned, SIZES, LOG
            )  # fmt: skip
