"""The most probable symbols of an automaton, and samples of them: float64 logarithms, one row of the batch a program.

    beta_n = 0      beta_i(s) = plus over edges (s, c, t) of P_i(c) + w + o_i(t) + beta_{i+1}(t)

where plus is the maximum or the logarithm of a sum, and P_i(c) that of the values of class c. From the first position
to the last a value v and the next state t are then chosen together, by p_i(v) + w + o_i(t) + beta_{i+1}(t).

Maxima add raw logits: float64 adds up those of float32 without rounding, so that assignments of equal probability tie
exactly, in every back end. Sums add log2 of priors. Both are kept for all positions in scratch memory.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.machine import Machine, Sizes, layer_at
from emnesy_gpu.kernels.gpu.automaton.symbols import (
    label_status,
    label_weights,
    store_class_weights,
    weight_of,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as NEVER
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import lost, plus_product, total
from emnesy_gpu.kernels.gpu.common.symbol_priors import Batch, store_priors

LOG = tl.constexpr(2)


class Paths(NamedTuple):
    """Scratch memory of a program, float64, S states and a state S without any way on."""

    score: object  # [n, K]: of values, p
    weight: object  # [n, C + 1]: of classes, P
    beta: object  # [n + 1, S + 1]: before each position, and after the last
    ahead: object  # [n, S + 1]: o + beta after each position


@triton.jit
def _paths(scratch_ptr, n, SIZES: tl.constexpr):
    weight = n * SIZES.n_values
    beta = weight + n * (SIZES.n_classes + 1)
    ahead = beta + (n + 1) * (SIZES.n_states + 1)
    scratch_ptr += tl.program_id(0).to(tl.int64) * (ahead + n * (SIZES.n_states + 1))
    return Paths(scratch_ptr, scratch_ptr + weight, scratch_ptr + beta, scratch_ptr + ahead)


def paths_size(n: int, sizes: Sizes) -> int:
    """Numbers of scratch memory for a program."""
    return n * (sizes.n_values + sizes.n_classes + 1) + (2 * n + 1) * (sizes.n_states + 1)


@triton.jit
def _store_logits(score_ptr, batch, SIZES: tl.constexpr):
    """Raw logits [n, K], 0 for symbols without a prior; the sum of the logs of their exponentials' sums, and a status."""
    value = tl.arange(0, SIZES.value_tile)[None, :]
    code = tl.full((SIZES.symbols, 1), 0, tl.int32)
    normaliser = tl.full((SIZES.symbols, 1), 0, tl.float64)
    for start in range(0, batch.n, SIZES.symbols):
        symbol = start + tl.arange(0, SIZES.symbols)[:, None]
        exists = symbol < batch.n
        inside = exists & (value < SIZES.n_values)
        at = (batch.first * batch.n + symbol) * SIZES.n_values + value
        logits = bounded(tl.load(batch.logits + at, mask=inside, other=float("-inf"))).to(tl.float64)
        logits = tl.where(exists, logits, 0.0)
        high = tl.max(logits, 1, keep_dims=True)
        sums = tl.sum(exp2((logits - high) * LOG2_E), 1, keep_dims=True)
        valid = sums == sums
        normaliser += tl.where(exists & valid, high + LN_2 * log2(tl.where(valid, sums, 1.0)), 0.0)
        code = tl.maximum(code, tl.where(valid, POSSIBLE, INVALID_LOGITS))
        tl.store(
            score_ptr + symbol * SIZES.n_values + value, tl.where(valid, tl.maximum(logits, NEVER), 0.0), mask=inside
        )
    return tl.sum(normaliser), tl.max(code)


@triton.jit
def _with_label(beta, batch, machine, position, SIZES: tl.constexpr, MAX: tl.constexpr):
    """beta plus what the label says after a position, in the unit of the scores: logarithms to the base e, or 2."""
    entry = tl.load(machine.entry + position)
    if entry >= 0:
        weight = label_weights(batch, machine, entry, SIZES, LOG, tl.float64)
        beta += weight * LN_2 if MAX else weight
    return beta


@triton.jit
def _edge_weight(weight_ptr, edge, inside, MAX: tl.constexpr):
    log_weight = weight_of(tl.load(weight_ptr + edge, mask=inside, other=1.0), LOG, tl.float64)
    return log_weight * LN_2 if MAX else log_weight


@triton.jit
def _pull(paths, machine, position, SIZES: tl.constexpr, MAX: tl.constexpr):
    """beta before a position [TILE, 1]."""
    S: tl.constexpr = SIZES.n_states
    state = tl.arange(0, SIZES.tile)[:, None]
    listed = machine.out_first + layer_at(machine, position, SIZES) * (S + 1) + state
    first = tl.load(listed, mask=state < S, other=0)
    end = tl.load(listed + 1, mask=state < S, other=0)
    before = tl.full((SIZES.tile, 1), NEVER, tl.float64)
    for d in range(tl.max(end - first)):
        inside = first + d < end
        klass = tl.load(machine.out_class + first + d, mask=inside, other=0)
        target = tl.load(machine.out_target + first + d, mask=inside, other=S)
        weight = tl.load(paths.weight + position * (SIZES.n_classes + 1) + klass)
        if SIZES.weighted:
            weight += _edge_weight(machine.out_weight, first + d, inside, MAX)
        before = plus_product(before, weight, tl.load(paths.ahead + position * (S + 1) + target), LOG, MAX)
    return before


@triton.jit
def _filter(paths, batch, machine, SIZES: tl.constexpr, MAX: tl.constexpr):
    """Leaves beta and what is ahead of every position in scratch; beta before the first [TILE, 1]."""
    S: tl.constexpr = SIZES.n_states
    state = tl.arange(0, SIZES.tile)[:, None]
    beta = tl.full((SIZES.tile, 1), 0, tl.float64)
    for back in range(batch.n):
        position = batch.n - 1 - back
        ahead = _with_label(beta, batch, machine, position, SIZES, MAX)
        tl.store(paths.ahead + position * (S + 1) + state, ahead, mask=state < S)
        tl.store(paths.ahead + position * (S + 1) + S, tl.zeros((), tl.float64) + NEVER)
        tl.debug_barrier()
        beta = _pull(paths, machine, position, SIZES, MAX)
        tl.store(paths.beta + position * (S + 1) + state, beta, mask=state < S)
    tl.debug_barrier()
    return beta


@triton.jit
def _with_start(beta, machine, SIZES: tl.constexpr, MAX: tl.constexpr):
    state = tl.arange(0, SIZES.tile)[:, None]
    exists = state < SIZES.n_states
    weight = weight_of(tl.load(machine.start + state, mask=exists, other=0.0), LOG, tl.float64)
    return tl.where(exists, beta + (weight * LN_2 if MAX else weight), NEVER)


@triton.jit
def _best_way(paths, machine, state, position, SIZES: tl.constexpr):
    """The smallest value, then the smallest state, of the best way on from a state."""
    layer = layer_at(machine, position, SIZES)
    value = tl.arange(0, SIZES.value_tile)
    exists = value < SIZES.n_values
    score = tl.load(paths.score + position * SIZES.n_values + value, mask=exists, other=NEVER)
    own = tl.load(machine.classes + layer * SIZES.n_values + value, mask=exists, other=-1)
    best = tl.full((SIZES.value_tile,), 3.0 * NEVER, tl.float64)
    target = tl.full((SIZES.value_tile,), 0, tl.int32)
    listed = machine.out_first + layer * (SIZES.n_states + 1) + state
    # Not from first to end: Triton 3.6 and 3.7 take a state of which only bounds of a loop are made for unused.
    first = tl.load(listed)
    for d in range(tl.load(listed + 1) - first):
        edge = first + d
        # Edges of a class follow each other in the order of their targets.
        there = tl.load(machine.out_target + edge)
        ahead = tl.load(paths.ahead + position * (SIZES.n_states + 1) + there)
        if SIZES.weighted:
            ahead += _edge_weight(machine.out_weight, edge + tl.zeros((1,), tl.int32), True, True)
        way = tl.where(own == tl.load(machine.out_class + edge), score + ahead, 3.0 * NEVER)
        target = tl.where(way > best, there, target)
        best = tl.maximum(best, way)
    chosen = tl.min(tl.where(best == tl.max(best, 0), value, SIZES.n_values - 1), 0)
    return chosen, tl.max(tl.where(value == chosen, target, 0), 0)


@triton.jit
def _best_value(paths, position, SIZES: tl.constexpr):
    """The smallest value of the largest prior."""
    value = tl.arange(0, SIZES.value_tile)
    score = tl.load(paths.score + position * SIZES.n_values + value, mask=value < SIZES.n_values, other=2.0 * NEVER)
    return tl.min(tl.where(score == tl.max(score, 0), value, SIZES.n_values - 1), 0)


@triton.jit
def _map_row(paths, batch, machine, chosen_ptr, log_joint_ptr, status_ptr, log_scale, SIZES: tl.constexpr):
    """One row of the batch, from logits to results."""
    normaliser, broken = _store_logits(paths.score, batch, SIZES)
    tl.debug_barrier()
    store_class_weights(paths.weight, paths.score, machine, 0, batch.n, SIZES, LOG, True)
    tl.debug_barrier()
    score = _with_start(_filter(paths, batch, machine, SIZES, True), machine, SIZES, True)
    state = tl.arange(0, SIZES.tile)[:, None]
    best = tl.max(score)
    code = tl.maximum(broken, tl.max(label_status(batch, machine, SIZES)))
    code = tl.where((code == POSSIBLE) & lost(best, LOG), IMPOSSIBLE, code)
    here = tl.min(tl.where(score == best, state, SIZES.n_states - 1))
    for position in range(batch.n):
        if code == POSSIBLE:
            value, here = _best_way(paths, machine, here, position, SIZES)
        else:
            value = _best_value(paths, position, SIZES)
        tl.store(chosen_ptr + position, value.to(tl.int64))
    log_joint = tl.where(code == POSSIBLE, best - normaliser + log_scale, float("-inf"))
    tl.store(log_joint_ptr, log_joint.to(log_joint_ptr.dtype.element_ty))
    tl.store(status_ptr, code.to(tl.uint8))


@triton.jit(do_not_specialize=["batch", "n", "n_entries", "n_emissions"])
def map_kernel(
    logits_ptr, label_ptr, layer_ptr, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr,
    class_values_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_weight_ptr, out_first_ptr, out_class_ptr,
    out_target_ptr, out_weight_ptr, start_ptr, entry_ptr, emissions_ptr, log_scale_ptr, scratch_ptr, chosen_ptr,
    log_joint_ptr, status_ptr, batch, n, n_entries, n_emissions, SIZES: tl.constexpr,
):  # fmt: skip
    """Rows one after another. Grid (programs,), row i to program i mod programs.

    logits [batch, n, K]; label int32 [batch, M]; chosen int64 [batch, n]; scratch float64 [programs, ...] as in Paths; the
    tables as in Machine.
    """
    machine = Machine(
        layer_ptr, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr, class_values_ptr, in_first_ptr,
        in_source_ptr, in_class_ptr, in_weight_ptr, out_first_ptr, out_class_ptr, out_target_ptr, out_weight_ptr,
        start_ptr, entry_ptr, emissions_ptr, n_entries, n_emissions,
    )  # fmt: skip
    paths = _paths(scratch_ptr, n, SIZES)
    log_scale = tl.load(log_scale_ptr)
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + i
        rows = Batch(logits_ptr, label_ptr, row, batch, n)
        tl.debug_barrier()
        _map_row(
            paths, rows, machine, chosen_ptr + row * n, log_joint_ptr + row, status_ptr + row, log_scale, SIZES
        )  # fmt: skip


@triton.jit
def _take(weight, candidate, uniform, running, chosen):
    """The candidate, if it is possible and the running sum before it does not exceed uniform; the sum with it."""
    taken = (running <= uniform) & (weight > 0.0)
    return running + weight, tl.where(taken, candidate, chosen)


@triton.jit
def _draw_start(paths, machine, total_weight, uniform, SIZES: tl.constexpr):
    """A state before position 0 for every sample."""
    running = tl.zeros(uniform.shape, tl.float64)
    chosen = tl.zeros(uniform.shape, tl.int32)
    for i in range(SIZES.n_states):
        state = tl.zeros(uniform.shape, tl.int32) + i
        weight = weight_of(tl.load(machine.start + state), LOG, tl.float64) + tl.load(paths.beta + state)
        running, chosen = _take(exp2(weight - total_weight), state, uniform, running, chosen)
    return chosen


@triton.jit
def _draw_way(paths, machine, state, position, uniform, SIZES: tl.constexpr):
    """A value and the next state for every sample, in the order of the values, then of the states."""
    S: tl.constexpr = SIZES.n_states
    K: tl.constexpr = SIZES.n_values
    layer = layer_at(machine, position, SIZES)
    before = tl.load(paths.beta + position * (S + 1) + state)
    running = tl.zeros(uniform.shape, tl.float64)
    chosen = tl.zeros(uniform.shape, tl.int32)
    first = tl.load(machine.out_first + layer * (S + 1) + state)
    end = tl.load(machine.out_first + layer * (S + 1) + state + 1)
    for value in range(K):
        score = tl.load(paths.score + position * K + value) - before
        klass = tl.load(machine.classes + layer * K + value)
        if SIZES.weighted:
            for d in range(tl.max(end - first, 0)):
                inside = first + d < end
                inside &= tl.load(machine.out_class + first + d, mask=inside, other=-1) == klass
                target = tl.load(machine.out_target + first + d, mask=inside, other=S)
                weight = score + tl.load(paths.ahead + position * (S + 1) + target)
                weight += _edge_weight(machine.out_weight, first + d, inside, False)
                running, chosen = _take(exp2(weight), target * K + value, uniform, running, chosen)
        else:
            at = (layer * SIZES.n_classes + tl.maximum(klass, 0)) * S + state
            target = tl.where(klass >= 0, tl.load(machine.successor + at), S)
            weight = score + tl.load(paths.ahead + position * (S + 1) + target)
            running, chosen = _take(exp2(weight), target * K + value, uniform, running, chosen)
    return chosen % K, chosen // K


@triton.jit
def _draw_value(paths, position, uniform, SIZES: tl.constexpr):
    """A value from the prior for every sample."""
    running = tl.zeros(uniform.shape, tl.float64)
    chosen = tl.zeros(uniform.shape, tl.int32)
    for value in range(SIZES.n_values):
        at = tl.zeros(uniform.shape, tl.int32) + position * SIZES.n_values + value
        weight = exp2(tl.load(paths.score + at))
        running, chosen = _take(weight, value, uniform, running, chosen)
    return chosen


@triton.jit
def _sample_row(
    paths, batch, machine, drawn_ptr, status_ptr, n_samples, seed, number, SIZES: tl.constexpr, SAMPLES: tl.constexpr
):  # fmt: skip
    """All samples of one row, and its status. number: of the row among all rows that the seed serves."""
    broken = tl.max(store_priors(paths.score, batch, 0, batch.n, SIZES, LOG))
    tl.debug_barrier()
    store_class_weights(paths.weight, paths.score, machine, 0, batch.n, SIZES, LOG, False)
    tl.debug_barrier()
    score = _with_start(_filter(paths, batch, machine, SIZES, False), machine, SIZES, False)
    total_weight = tl.max(total(score, 0, LOG, False))
    code = tl.maximum(broken, tl.max(label_status(batch, machine, SIZES)))
    code = tl.where((code == POSSIBLE) & lost(total_weight, LOG), IMPOSSIBLE, code)
    tl.store(status_ptr, code.to(tl.uint8))
    for start in range(0, n_samples, SAMPLES):
        t = start + tl.arange(0, SAMPLES)
        out_ptr = drawn_ptr + (t.to(tl.int64) * batch.size + batch.first) * batch.n
        state = tl.full((SAMPLES,), 0, tl.int32)
        if code == POSSIBLE:
            uniform = uniforms_float64(Counter(seed, t, number), 0)[1]
            state = _draw_start(paths, machine, total_weight, uniform, SIZES)
        for position in range(batch.n):
            uniform = uniforms_float64(Counter(seed, t, number), position)[0]
            if code == POSSIBLE:
                value, state = _draw_way(paths, machine, state, position, uniform, SIZES)
            else:
                value = _draw_value(paths, position, uniform, SIZES)
            tl.store(out_ptr + position, value.to(tl.int64), mask=t < n_samples)


@triton.jit(do_not_specialize=["batch", "n", "n_entries", "n_emissions", "n_samples", "seed", "first_row"])
def sample_kernel(
    logits_ptr, label_ptr, layer_ptr, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr,
    class_values_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_weight_ptr, out_first_ptr, out_class_ptr,
    out_target_ptr, out_weight_ptr, start_ptr, entry_ptr, emissions_ptr, log_scale_ptr, scratch_ptr, drawn_ptr,
    status_ptr, batch, n, n_entries, n_emissions, n_samples, seed, first_row, SIZES: tl.constexpr,
    SAMPLES: tl.constexpr,
):  # fmt: skip
    """Rows one after another. Grid (programs,), row i to program i mod programs.

    logits [batch, n, K]; label int32 [batch, M]; drawn int64 [n_samples, batch, n]; scratch float64 [programs, ...] as in
    Paths; the tables as in Machine.
    """
    machine = Machine(
        layer_ptr, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr, class_values_ptr, in_first_ptr,
        in_source_ptr, in_class_ptr, in_weight_ptr, out_first_ptr, out_class_ptr, out_target_ptr, out_weight_ptr,
        start_ptr, entry_ptr, emissions_ptr, n_entries, n_emissions,
    )  # fmt: skip
    paths = _paths(scratch_ptr, n, SIZES)
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + i
        rows = Batch(logits_ptr, label_ptr, row, batch, n)
        tl.debug_barrier()
        _sample_row(
            paths, rows, machine, drawn_ptr, status_ptr + row, n_samples, seed, first_row.to(tl.int64) + row, SIZES,
            SAMPLES,
        )  # fmt: skip
