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

from emnesy_gpu.kernels import status
from emnesy_gpu.kernels.gpu.automaton.machine import (
    BASE,
    CLASS_SHIFT,
    DEGREE,
    LAYER_SIZES,
    SOURCE_MASK,
    WIDTH,
    Machine,
    Sizes,
    layer_at,
)
from emnesy_gpu.kernels.gpu.automaton.symbols import (
    POSSIBLE,
    Batch,
    label_status,
    label_weights,
    store_class_weights,
    store_priors,
    symbols_from,
    weight_of,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, log2
from emnesy_gpu.kernels.gpu.common.sum_product import lost, one, over, plus_product, probability, times, total, zero

IMPOSSIBLE = tl.constexpr(status.IMPOSSIBLE)
LARGEST = tl.constexpr(1.0e24)
SMALLEST = tl.constexpr(1.0e-37)
FACTORS = tl.constexpr(8)
"""Scales z_i of at least SMALLEST whose product float64 holds."""


class Work(NamedTuple):
    """Scratch memory of a program: T positions of a block, S states, a state S that is always zero, R rows."""

    prior: object  # [T, K, R]
    weight: object  # [T, C + 1, R]: P, and r once it is known
    scale: object  # [T, R]: z, and y once it is known
    alpha: object  # [T, S + 1, R]
    starts: object  # [blocks, S + 1, R]: alpha at the beginning of each block
    beta: object  # [2, S + 1, R]: o beta, that of position i at i % 2
    sums: object  # [LANES, CHUNK, R]
    seen: object  # [S + 1, R]: o of a position where the label has an entry
    kept: object  # [R]: 1 for rows whose prior is their result


@triton.jit
def _work(scratch_ptr, n, block, SIZES: tl.constexpr):
    """Where everything lies in what a program has of the scratch memory; see `scratch_size`."""
    R: tl.constexpr = SIZES.rows
    weight = block * SIZES.n_values
    scale = weight + block * (SIZES.n_classes + 1)
    alpha = scale + block
    starts = alpha + block * (SIZES.n_states + 1)
    beta = starts + tl.cdiv(n, block) * (SIZES.n_states + 1)
    sums = beta + 2 * (SIZES.n_states + 1)
    seen = sums + SIZES.lanes * SIZES.chunk
    kept = seen + SIZES.n_states + 1
    scratch_ptr += tl.program_id(0).to(tl.int64) * (kept + 1) * R
    return Work(
        scratch_ptr, scratch_ptr + weight * R, scratch_ptr + scale * R, scratch_ptr + alpha * R,
        scratch_ptr + starts * R, scratch_ptr + beta * R, scratch_ptr + sums * R,
        scratch_ptr + seen * R, scratch_ptr + kept * R,
    )  # fmt: skip


def scratch_size(n: int, block: int, sizes: Sizes) -> int:
    """Numbers of scratch memory for a program."""
    per_position = sizes.n_values + sizes.n_classes + 1 + 1 + sizes.n_states + 1
    vectors = -(-n // block) + 3
    return sizes.rows * (block * per_position + vectors * (sizes.n_states + 1) + sizes.lanes * sizes.chunk + 1)


@triton.jit
def states(SIZES: tl.constexpr):
    """The states [TILE, 1], not known to be neighbours: threads with two of them would trade what they look up by state."""
    return tl.max_contiguous(tl.arange(0, SIZES.tile)[:, None], (1, 1))


@triton.jit
def rows_of_states(SIZES: tl.constexpr):
    """The rows [TILE, R] of every state: all vectors are then in the threads that hold those of states."""
    return tl.broadcast_to(tl.arange(0, SIZES.rows)[None, :], (SIZES.tile, SIZES.rows))


@triton.jit
def _lookup(pointers, other, SIZES: tl.constexpr):
    """Numbers of all states, pointers [TILE, 1], for every row [TILE, R], `other` where there is no state.

    Read once for the rows that a thread has, by the threads that need them.
    """
    LANES: tl.constexpr = max(SIZES.rows // 4, 1)
    at = tl.broadcast_to(pointers, (SIZES.tile, LANES))
    number = tl.load(at, mask=states(SIZES) < SIZES.n_states, other=other)[:, :, None]
    return tl.reshape(tl.broadcast_to(number, (SIZES.tile, LANES, SIZES.rows // LANES)), (SIZES.tile, SIZES.rows))


@triton.jit
def _scaled(x, sums, LOG: tl.constexpr):
    """x / sums, by one reciprocal a row."""
    return over(x, sums, LOG) if LOG else x * (1.0 / tl.maximum(sums, SMALLEST))


@triton.jit
def _store_vector(pointers, x, SIZES: tl.constexpr):
    """x [TILE, R] to [S, R]."""
    state = states(SIZES)
    row = rows_of_states(SIZES)
    tl.store(pointers + state * SIZES.rows + row, x, mask=state < SIZES.n_states)


@triton.jit
def _load_vector(pointers, SIZES: tl.constexpr, LOG: tl.constexpr):
    state = states(SIZES)
    row = rows_of_states(SIZES)
    return tl.load(pointers + state * SIZES.rows + row, mask=state < SIZES.n_states, other=zero(LOG))


@triton.jit
def _clear_nowhere(work, block, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Zeros for the state S of all vectors that are looked up by state."""
    row = tl.arange(0, SIZES.rows)
    nothing = tl.full((SIZES.rows,), zero(LOG), work.alpha.dtype.element_ty)
    for j in range(block):
        tl.store(work.alpha + (j * (SIZES.n_states + 1) + SIZES.n_states) * SIZES.rows + row, nothing)
    for j in range(2):
        tl.store(work.beta + (j * (SIZES.n_states + 1) + SIZES.n_states) * SIZES.rows + row, nothing)


@triton.jit
def _with_label(x, work, batch, machine, position, SIZES: tl.constexpr, LOG: tl.constexpr):
    """x times what the label says after a position, by way of scratch memory: x stays in the threads where it is."""
    entry = tl.load(machine.entry + position)
    if entry >= 0:
        weights = label_weights(batch, machine, entry, SIZES, LOG, work.seen.dtype.element_ty)
        tl.debug_barrier()
        _store_vector(work.seen, weights, SIZES)
        tl.debug_barrier()
        x = times(x, _load_vector(work.seen, SIZES, LOG), LOG)
    return x


@triton.jit
def _pull_listed(after, alpha, weight, machine, layer, width, degree, SIZES: tl.constexpr, LOG: tl.constexpr):
    """after [TILE, R] and what comes along the edges into each state that have no column."""
    S: tl.constexpr = SIZES.n_states
    R: tl.constexpr = SIZES.rows
    state = states(SIZES)
    listed = machine.in_first + layer * (S + 1) + state
    first = tl.load(listed, mask=state < S, other=0)
    end = tl.load(listed + 1, mask=state < S, other=0)
    for d in range(width, degree):
        inside = first + d < end
        source = tl.load(machine.in_source + first + d, mask=inside, other=S)
        klass = tl.load(machine.in_class + first + d, mask=inside, other=0)
        before = tl.load(alpha + source * R)
        if SIZES.weighted:
            factor = tl.load(machine.in_weight + first + d, mask=inside, other=1.0)
            before = times(before, weight_of(factor, LOG, after.dtype), LOG)
        after = plus_product(after, before, tl.load(weight + klass * R), LOG, False)
    return after


@triton.jit
def _pull_forward(work, machine, layer, j, SIZES: tl.constexpr, LOG: tl.constexpr):
    """alpha of position j of a block along the edges into each state [TILE, R]."""
    COMPUTE: tl.constexpr = work.alpha.dtype.element_ty
    S: tl.constexpr = SIZES.n_states
    R: tl.constexpr = SIZES.rows
    state = states(SIZES)
    row = rows_of_states(SIZES)
    alpha = work.alpha + j * ((S + 1) * R) + row
    weight = work.weight + j * ((SIZES.n_classes + 1) * R) + row
    sizes = machine.sizes + layer * LAYER_SIZES
    width = tl.load(sizes + WIDTH)
    after = tl.full((SIZES.tile, R), zero(LOG), COMPUTE)
    column = machine.incoming + tl.load(sizes + BASE) + state
    for d in range(width):
        edge = _lookup(column + d * S, S, SIZES)
        source = edge & SOURCE_MASK
        before = tl.load(alpha + source * R)
        after = plus_product(after, before, tl.load(weight + (edge >> CLASS_SHIFT) * R), LOG, False)
    degree = tl.load(sizes + DEGREE)
    if width < degree:
        after = _pull_listed(after, alpha, weight, machine, layer, width, degree, SIZES, LOG)
    return after


@triton.jit
def _forward(work, batch, machine, alpha, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The positions of a block: leaves alpha before and z of each in scratch, and returns alpha after the last."""
    row = rows_of_states(SIZES)
    for j in tl.range(count, disable_licm=True):
        _store_vector(work.alpha + j * ((SIZES.n_states + 1) * SIZES.rows), alpha, SIZES)
        tl.debug_barrier()
        after = _pull_forward(work, machine, layer_at(machine, first + j, SIZES), j, SIZES, LOG)
        after = _with_label(after, work, batch, machine, first + j, SIZES, LOG)
        scale = total(after, 0, LOG, False)
        scale = tl.broadcast_to(scale, (SIZES.tile, SIZES.rows))
        tl.store(work.scale + j * SIZES.rows + row, scale, mask=states(SIZES) == 0)
        alpha = _scaled(after, scale, LOG)
    tl.debug_barrier()
    return alpha


@triton.jit
def _log2_of_scales(work, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The sum of log2 z_i over a block [1, R] in float64, and whether one of them is zero."""
    row = tl.arange(0, SIZES.rows)[None, :]
    evidence = tl.zeros((1, SIZES.rows), tl.float64)
    dead = tl.zeros((SIZES.positions, SIZES.rows), tl.int32)
    for start in tl.range(0, count, SIZES.positions * FACTORS, disable_licm=True):
        product = tl.full((SIZES.positions, SIZES.rows), one(LOG), tl.float64)
        for d in range(FACTORS):
            j = start + tl.arange(0, SIZES.positions)[:, None] * FACTORS + d
            scale = tl.load(work.scale + j * SIZES.rows + row, mask=j < count, other=one(LOG))
            nothing = lost(scale, LOG) if LOG else ~(scale > 0.0)
            dead |= nothing.to(tl.int32)
            product = times(product, tl.where(nothing, one(LOG), scale).to(tl.float64), LOG)
        evidence += tl.sum(product if LOG else log2(product), 0)[None, :]
    return evidence, tl.max(dead, 0)[None, :]


@triton.jit
def _class_ahead(beta, edge, end, machine, layer, c, SIZES: tl.constexpr, LOG: tl.constexpr):
    """sum of w beta over the targets of class c from each state [TILE, R]; the first edge of the next class.

    edge, end: of weighted automata, the first edge of class c out of each state, and where its edges end.
    """
    COMPUTE: tl.constexpr = beta.dtype.element_ty
    S: tl.constexpr = SIZES.n_states
    R: tl.constexpr = SIZES.rows
    state = states(SIZES)
    row = rows_of_states(SIZES)
    if not SIZES.weighted:
        at = (layer * SIZES.n_classes + c) * S + state
        target = _lookup(machine.successor + at, S, SIZES)
        return tl.load(beta + target * R + row), edge
    else:
        ahead = tl.full((SIZES.tile, R), zero(LOG), COMPUTE)
        here = tl.load(machine.out_class + edge, mask=edge < end, other=-1) == c
        while tl.max(here.to(tl.int32)) > 0:
            target = tl.load(machine.out_target + edge, mask=here, other=S)
            factor = tl.load(machine.out_weight + edge, mask=here, other=1.0)
            x = tl.load(beta + target * R + row)
            ahead = plus_product(ahead, x, weight_of(factor, LOG, COMPUTE), LOG, False)
            edge += here.to(tl.int32)
            here = tl.load(machine.out_class + edge, mask=edge < end, other=-1) == c
        return ahead, edge


@triton.jit
def _store_sums(work, alpha, ahead, place, SIZES: tl.constexpr, LOG: tl.constexpr):
    """alpha times what is ahead, summed over all states of a lane."""
    GROUPS: tl.constexpr = SIZES.tile // SIZES.lanes
    product = tl.reshape(times(alpha, ahead, LOG), (GROUPS, SIZES.lanes, SIZES.rows))
    sums = tl.reshape(total(product, 0, LOG, False), (SIZES.lanes, SIZES.rows))
    lane = tl.arange(0, SIZES.lanes)[:, None]
    row = tl.arange(0, SIZES.rows)[None, :]
    tl.store(work.sums + (lane * SIZES.chunk + place) * SIZES.rows + row, sums)


@triton.jit
def _finish_sums(work, j, first, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Puts r of a chunk of classes in the place of their weights; their share of y [1, R]."""
    C: tl.constexpr = SIZES.n_classes
    R: tl.constexpr = SIZES.rows
    part = tl.arange(0, SIZES.parts)[:, None, None]
    place = tl.arange(0, SIZES.chunk)[None, :, None]
    row = tl.arange(0, R)[None, None, :]
    tl.debug_barrier()
    sums = tl.full((SIZES.parts, SIZES.chunk, R), zero(LOG), work.sums.dtype.element_ty)
    for lane in range(0, SIZES.lanes, SIZES.parts):
        pointers = work.sums + ((lane + part) * SIZES.chunk + place) * R + row
        sums = plus_product(sums, tl.load(pointers, mask=first + place < C, other=zero(LOG)), one(LOG), LOG, False)
    rest = tl.reshape(total(sums, 0, LOG, False), (SIZES.chunk, R))
    klass = first + tl.arange(0, SIZES.chunk)[:, None]
    pointers = work.weight + (j * (C + 1) + klass) * R + tl.arange(0, R)[None, :]
    weight = tl.load(pointers, mask=klass < C, other=zero(LOG))
    tl.debug_barrier()
    tl.store(pointers, rest, mask=klass < C)
    return total(times(weight, rest, LOG), 0, LOG, False)


@triton.jit
def _pull_backward(work, machine, position, j, SIZES: tl.constexpr, LOG: tl.constexpr):
    """beta before a position, not scaled [TILE, R], and y [TILE, R]; leaves r and y in scratch."""
    COMPUTE: tl.constexpr = work.alpha.dtype.element_ty
    S: tl.constexpr = SIZES.n_states
    R: tl.constexpr = SIZES.rows
    row = rows_of_states(SIZES)
    layer = layer_at(machine, position, SIZES)
    beta = work.beta + (position & 1) * ((S + 1) * R)
    alpha = _load_vector(work.alpha + j * ((S + 1) * R), SIZES, LOG)
    before = tl.full((SIZES.tile, R), zero(LOG), COMPUTE)
    sums = tl.full((1, R), zero(LOG), COMPUTE)
    edge = 0
    end = 0
    if SIZES.weighted:
        state = states(SIZES)
        listed = machine.out_first + layer * (S + 1) + state
        edge = tl.load(listed, mask=state < S, other=0)
        end = tl.load(listed + 1, mask=state < S, other=0)
    for first in range(0, SIZES.n_classes, SIZES.chunk):
        for c in range(first, min(first + SIZES.chunk, SIZES.n_classes)):
            ahead, edge = _class_ahead(beta, edge, end, machine, layer, c, SIZES, LOG)
            weight = tl.load(work.weight + (j * (SIZES.n_classes + 1) + c) * R + row)
            before = plus_product(before, weight, ahead, LOG, False)
            _store_sums(work, alpha, ahead, c - first, SIZES, LOG)
        sums = plus_product(sums, _finish_sums(work, j, first, SIZES, LOG), one(LOG), LOG, False)
    tl.store(work.scale + j * R + tl.arange(0, R)[None, :], sums)
    tl.debug_barrier()
    return before, tl.load(work.scale + j * R + row)


@triton.jit
def _backward(work, batch, machine, beta, largest, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The positions of a block from the last to the first; beta before it, and the largest that the bound looks at."""
    for back in tl.range(count, disable_licm=True):
        j = count - 1 - back
        seen = _with_label(beta, work, batch, machine, first + j, SIZES, LOG)
        _store_vector(work.beta + ((first + j) & 1) * ((SIZES.n_states + 1) * SIZES.rows), seen, SIZES)
        tl.debug_barrier()
        before, sums = _pull_backward(work, machine, first + j, j, SIZES, LOG)
        if not LOG:
            largest = tl.maximum(largest, _scaled(tl.maximum(beta, 1.0), sums, LOG))
        beta = _scaled(before, sums, LOG)
    return beta, largest


@triton.jit
def _store_results(
    work, batch, machine, out_ptr, first, count, scale, SIZES: tl.constexpr, GRADIENT: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """Marginals, or the gradient, of the symbols of a block."""
    K: tl.constexpr = SIZES.n_values
    C: tl.constexpr = SIZES.n_classes
    R: tl.constexpr = SIZES.rows
    value = tl.arange(0, SIZES.value_tile)[None, :]
    tl.debug_barrier()
    for start in tl.range(0, count * R, SIZES.symbols, disable_licm=True):
        symbol = symbols_from(start, SIZES)
        r = symbol % R
        j = symbol // R
        inside = (symbol < count * R) & (value < K)
        layer = layer_at(machine, tl.where(symbol < count * R, first + j, first), SIZES)
        klass = tl.load(machine.classes + layer * K + value, mask=value < K, other=-1)
        prior = tl.load(work.prior + (j * K + value) * R + r, mask=inside, other=zero(LOG))
        klass = tl.where(klass < 0, C, klass)
        rest = tl.load(work.weight + (j * (C + 1) + klass) * R + r, mask=inside, other=zero(LOG))
        sums = tl.load(work.scale + j * R + r, mask=symbol < count * R, other=one(LOG))
        result = _scaled(times(prior, rest, LOG), sums, LOG)
        kept = tl.load(work.kept + r) > 0.0
        result = probability(tl.where(kept, prior, result), LOG)
        if GRADIENT:
            result = (probability(prior, LOG) - result) * scale
        at = ((batch.first + r) * batch.n + first + j) * K + value
        tl.store(out_ptr + at, result, mask=inside & (batch.first + r < batch.size))
    tl.debug_barrier()


@triton.jit
def _read_block(work, batch, machine, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Priors of values and classes of a block of positions; INVALID_LOGITS or POSSIBLE [1, R]."""
    code = store_priors(work.prior, batch, first, count, SIZES, LOG)
    tl.debug_barrier()
    store_class_weights(work.weight, work.prior, machine, first, count, SIZES, LOG, False)
    tl.debug_barrier()
    return code


@triton.jit
def _store_start(work, machine, SIZES: tl.constexpr, LOG: tl.constexpr):
    """alpha before the first position."""
    COMPUTE: tl.constexpr = work.alpha.dtype.element_ty
    state = states(SIZES)
    alpha = tl.load(machine.start + state, mask=state < SIZES.n_states, other=0.0)
    alpha = tl.broadcast_to(weight_of(alpha, LOG, COMPUTE), (SIZES.tile, SIZES.rows))
    _store_vector(work.starts, alpha, SIZES)


@triton.jit
def _rows(
    work, batch, machine, out_ptr, scale, block, SIZES: tl.constexpr, GRADIENT: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """R rows: stores their marginals, and returns log2 of the evidence, the status, and which rows to repeat [1, R].

    Blocks of positions from the first to the last, and then backwards; the last is computed once.
    """
    COMPUTE: tl.constexpr = work.alpha.dtype.element_ty
    VECTOR: tl.constexpr = (SIZES.n_states + 1) * SIZES.rows
    evidence = tl.zeros((1, SIZES.rows), tl.float64)
    dead = tl.zeros((1, SIZES.rows), tl.int32)
    code = label_status(batch, machine, SIZES)
    beta = tl.full((SIZES.tile, SIZES.rows), one(LOG), COMPUTE)
    largest = tl.full((SIZES.tile, SIZES.rows), 1.0, COMPUTE)
    _store_start(work, machine, SIZES, LOG)
    last = tl.cdiv(batch.n, block) - 1
    for step in tl.range(2 * last + 1, disable_licm=True):
        index = tl.minimum(step, 2 * last - step)
        first = index * block
        count = tl.minimum(batch.n - first, block)
        code = tl.maximum(code, _read_block(work, batch, machine, first, count, SIZES, LOG))
        alpha = _load_vector(work.starts + index * VECTOR, SIZES, LOG)
        alpha = _forward(work, batch, machine, alpha, first, count, SIZES, LOG)
        if step <= last:
            more, nothing = _log2_of_scales(work, count, SIZES, LOG)
            evidence += more
            dead = tl.maximum(dead, nothing)
            tl.debug_barrier()
        if step < last:
            _store_vector(work.starts + (index + 1) * VECTOR, alpha, SIZES)
        else:
            kept = (code > POSSIBLE) | (dead > 0)
            tl.store(work.kept + tl.arange(0, SIZES.rows)[None, :], kept.to(COMPUTE))
            beta, largest = _backward(work, batch, machine, beta, largest, first, count, SIZES, LOG)
            _store_results(work, batch, machine, out_ptr, first, count, scale, SIZES, GRADIENT, LOG)
    drowned = dead
    if not LOG:
        drowned = tl.maximum(dead, tl.where(tl.max(largest, 0)[None, :] <= LARGEST, 0, 1))
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
    out_target_ptr, out_weight_ptr, start_ptr, entry_ptr, emissions_ptr, log_scale_ptr, scratch_ptr, out_ptr,
    evidence_ptr, status_ptr, redo_ptr, batch, n, block, n_entries, n_emissions, scale_high, scale_low,
    SIZES: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """Groups of R rows one after another; scratch in float64: only rows with `redo`, in log2.

    Grid (programs,), group g to program g mod programs. logits and out [batch, n, K]; label int32 [batch, M]; scratch
    [programs, ...] as in Work; the tables as in Machine.
    """
    LOG: tl.constexpr = (
        0 if scratch_ptr.dtype.element_ty == tl.float32 else 1 if out_ptr.dtype.element_ty == tl.float32 else 2
    )
    machine = Machine(
        layer_ptr, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr, class_values_ptr, in_first_ptr,
        in_source_ptr, in_class_ptr, in_weight_ptr, out_first_ptr, out_class_ptr, out_target_ptr, out_weight_ptr,
        start_ptr, entry_ptr, emissions_ptr, n_entries, n_emissions,
    )  # fmt: skip
    work = _work(scratch_ptr, n, block, SIZES)
    _clear_nowhere(work, block, SIZES, LOG)
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
            evidence, code, drowned = _rows(work, rows, machine, out_ptr, scale, block, SIZES, GRADIENT, LOG)
            _store_outcome(
                evidence_ptr, status_ptr, redo_ptr, rows, log_scale, evidence, code, drowned, SIZES, LOG
            )  # fmt: skip
