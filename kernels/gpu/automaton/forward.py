"""The pass from the first position to the last: alpha, scaled to sum 1, and the evidence from its scales."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.machine import (
    BASE,
    CLASS_SHIFT,
    DEGREE,
    LAYER_SIZES,
    SOURCE_MASK,
    WIDTH,
    layer_at,
)
from emnesy_gpu.kernels.gpu.automaton.symbols import label_weights, weight_of
from emnesy_gpu.kernels.gpu.automaton.vectors import (
    SMALLEST,
    by_row,
    divisor,
    for_rows,
    load_vector,
    rows_of,
    scaled,
    shared_states,
    states_of,
    store_vector,
    sum_of_states,
    vector_at,
    weight_at,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import log2
from emnesy_gpu.kernels.gpu.common.sum_product import lost, one, plus_product, times, zero

FACTORS = tl.constexpr(8)
"""Scales whose product float64 holds."""


@triton.jit
def with_label(x, work, batch, machine, position, SIZES: tl.constexpr, LOG: tl.constexpr):
    """x times what the label says after a position, by way of scratch memory: x stays in the threads where it is."""
    entry = tl.load(machine.entry + position)
    if entry >= 0:
        weights = label_weights(batch, machine, entry, SIZES, LOG, work.seen.dtype.element_ty)
        state = tl.arange(0, SIZES.tile)[:, None]
        tl.debug_barrier()
        pointers = work.seen + state * SIZES.rows + tl.arange(0, SIZES.rows)[None, :]
        tl.store(pointers, weights, mask=state < SIZES.n_states)
        tl.debug_barrier()
        x = times(x, load_vector(work.seen, SIZES, LOG), LOG)
    return x


@triton.jit
def _pull_listed(after, alpha, weight, machine, layer, width, degree, SIZES: tl.constexpr, LOG: tl.constexpr):
    """after [G, TILE, 4] and what comes along the edges into each state that have no column."""
    S: tl.constexpr = SIZES.n_states
    row = rows_of(SIZES)
    state = shared_states(SIZES)
    listed = machine.in_first + layer * (S + 1) + state
    first = tl.load(listed, mask=state < S, other=0)
    end = tl.load(listed + 1, mask=state < S, other=0)
    for d in range(width, degree):
        inside = first + d < end
        source = tl.load(machine.in_source + first + d, mask=inside, other=S)
        klass = tl.load(machine.in_class + first + d, mask=inside, other=0)
        before = tl.load(for_rows(alpha + source * SIZES.rows, SIZES) + row)
        if SIZES.weighted:
            factor = weight_of(tl.load(machine.in_weight + first + d, mask=inside, other=1.0), LOG, after.dtype)
            before = times(before, for_rows(factor, SIZES), LOG)
        after = plus_product(after, before, tl.load(for_rows(weight + klass * SIZES.rows, SIZES) + row), LOG, False)
    return after


@triton.jit
def _pull(work, machine, layer, j, SIZES: tl.constexpr, LOG: tl.constexpr):
    """alpha of position j of a block along the edges into each state [G, TILE, 4]."""
    S: tl.constexpr = SIZES.n_states
    row = rows_of(SIZES)
    state = shared_states(SIZES)
    alpha = vector_at(work.alpha, j, SIZES)
    weight = weight_at(work, j, 0, SIZES)
    sizes = machine.sizes + layer * LAYER_SIZES
    width = tl.load(sizes + WIDTH)
    after = tl.zeros_like(states_of(SIZES) + row).to(work.alpha.dtype.element_ty) + zero(LOG)
    column = machine.incoming + tl.load(sizes + BASE) + state
    for d in range(width):
        edge = tl.load(column + d * S, mask=state < S, other=S)
        before = tl.load(for_rows(alpha + (edge & SOURCE_MASK) * SIZES.rows, SIZES) + row)
        prior = tl.load(for_rows(weight + (edge >> CLASS_SHIFT) * SIZES.rows, SIZES) + row)
        after = plus_product(after, before, prior, LOG, False)
    degree = tl.load(sizes + DEGREE)
    if width < degree:
        after = _pull_listed(after, alpha, weight, machine, layer, width, degree, SIZES, LOG)
    return after


@triton.jit
def forward(work, batch, machine, alpha, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The positions of a block: leaves alpha before and 1 / z of each in scratch, and returns alpha after the last."""
    row = tl.arange(0, SIZES.rows)[None, :]
    for j in tl.range(count, disable_licm=True):
        store_vector(vector_at(work.alpha, j, SIZES), alpha, SIZES)
        tl.debug_barrier()
        after = _pull(work, machine, layer_at(machine, first + j, SIZES), j, SIZES, LOG)
        after = with_label(after, work, batch, machine, first + j, SIZES, LOG)
        tl.store(work.scale + j * SIZES.rows + row, divisor(sum_of_states(work, after, SIZES, LOG), LOG))
        tl.debug_barrier()
        alpha = scaled(after, by_row(work.scale + j * SIZES.rows, SIZES), LOG)
    tl.debug_barrier()
    return alpha


@triton.jit
def log2_of_scales(work, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The sum of log2 z_i over a block [1, R] in float64, and whether one of them is zero."""
    row = tl.arange(0, SIZES.rows)[None, :]
    evidence = tl.full((1, SIZES.rows), 0, tl.float64)
    dead = tl.full((SIZES.positions, SIZES.rows), 0, tl.int32)
    for start in tl.range(0, count, SIZES.positions * FACTORS, disable_licm=True):
        product = tl.full((SIZES.positions, SIZES.rows), one(LOG), tl.float64)
        for d in range(FACTORS):
            j = start + tl.arange(0, SIZES.positions)[:, None] * FACTORS + d
            scale = tl.load(work.scale + j * SIZES.rows + row, mask=j < count, other=one(LOG))
            nothing = lost(scale, LOG) if LOG else ~(scale * SMALLEST < 0.99)
            dead |= nothing.to(tl.int32)
            product = times(product, tl.where(nothing, one(LOG), scale).to(tl.float64), LOG)
        evidence += tl.sum(product if LOG else -log2(product), 0)[None, :]
    return evidence, tl.max(dead, 0)[None, :]
