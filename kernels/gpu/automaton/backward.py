"""The pass from the last position to the first: beta, and the sums r over the edges of each class."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.forward import with_label
from emnesy_gpu.kernels.gpu.automaton.machine import LAYER_SIZES, N_CLASSES, layer_at
from emnesy_gpu.kernels.gpu.automaton.symbols import weight_of
from emnesy_gpu.kernels.gpu.automaton.vectors import (
    by_row,
    divisor,
    for_rows,
    load_vector,
    rest_at,
    rows_of,
    scaled,
    shared_states,
    states_of,
    store_sums,
    store_vector,
    sums_of_chunk,
    vector_at,
    weight_at,
)
from emnesy_gpu.kernels.gpu.common.sum_product import one, plus_product, times, total, zero


@triton.jit
def _class_ahead(beta, edge, end, machine, layer, c, SIZES: tl.constexpr, LOG: tl.constexpr):
    """sum of w beta over the targets of class c from each state [G, TILE, 4]; the first edge of the next class.

    edge, end [ROW_LANES, TILE]: of weighted automata, the first edge of class c out of each state, and where its edges
    end.
    """
    S: tl.constexpr = SIZES.n_states
    row = rows_of(SIZES)
    state = shared_states(SIZES)
    if not SIZES.weighted:
        target = tl.load(machine.successor + (layer * SIZES.n_classes + c) * S + state, mask=state < S, other=S)
        return tl.load(for_rows(beta + target * SIZES.rows, SIZES) + row), edge
    else:
        ahead = tl.zeros_like(states_of(SIZES) + row).to(beta.dtype.element_ty) + zero(LOG)
        here = tl.load(machine.out_class + edge, mask=edge < end, other=-1) == c
        while tl.max(here.to(tl.int32)) > 0:
            target = tl.load(machine.out_target + edge, mask=here, other=S)
            factor = weight_of(tl.load(machine.out_weight + edge, mask=here, other=1.0), LOG, ahead.dtype)
            x = tl.load(for_rows(beta + target * SIZES.rows, SIZES) + row)
            ahead = plus_product(ahead, x, for_rows(factor, SIZES), LOG, False)
            edge += here.to(tl.int32)
            here = tl.load(machine.out_class + edge, mask=edge < end, other=-1) == c
        return ahead, edge


@triton.jit
def _finish_chunk(work, j, first, end, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Stores r of the classes of a chunk, up to `end`; their share of y [1, R]."""
    row = tl.arange(0, SIZES.rows)[None, :]
    klass = first + tl.arange(0, SIZES.chunk)[:, None]
    tl.debug_barrier()
    rest = sums_of_chunk(work, SIZES, LOG)
    weight = tl.load(weight_at(work, j, klass, SIZES) + row, mask=klass < end, other=zero(LOG))
    if not SIZES.single:
        tl.debug_barrier()
    tl.store(rest_at(work, j, klass, SIZES) + row, rest, mask=klass < end)
    # Chosen, so that no product is rounded together with a sum: all threads of a sum then have the same one.
    return total(tl.where(klass < end, times(weight, rest, LOG), zero(LOG)), 0, LOG, False)


@triton.jit
def _pull(work, machine, position, j, SIZES: tl.constexpr, LOG: tl.constexpr):
    """beta before a position, not scaled [G, TILE, 4], and 1 / y in the same shape; leaves r and 1 / y in scratch."""
    S: tl.constexpr = SIZES.n_states
    layer = layer_at(machine, position, SIZES)
    beta = vector_at(work.beta, position & 1, SIZES)
    alpha = load_vector(vector_at(work.alpha, j, SIZES), SIZES, LOG)
    before = tl.zeros_like(alpha) + zero(LOG)
    sums = tl.full((1, SIZES.rows), zero(LOG), alpha.dtype)
    edge = 0
    end = 0
    if SIZES.weighted:
        state = shared_states(SIZES)
        listed = machine.out_first + layer * (S + 1) + state
        edge = tl.load(listed, mask=state < S, other=0)
        end = tl.load(listed + 1, mask=state < S, other=0)
    n_classes = tl.load(machine.sizes + layer * LAYER_SIZES + N_CLASSES)
    for first in range(0, n_classes, SIZES.chunk):
        last = tl.minimum(first + SIZES.chunk, n_classes)
        for c in range(first, last):
            ahead, edge = _class_ahead(beta, edge, end, machine, layer, c, SIZES, LOG)
            before = plus_product(before, by_row(weight_at(work, j, c, SIZES), SIZES), ahead, LOG, False)
            store_sums(work, times(alpha, ahead, LOG), c - first, SIZES, LOG)
        sums = plus_product(sums, _finish_chunk(work, j, first, last, SIZES, LOG), one(LOG), LOG, False)
    tl.store(work.scale + j * SIZES.rows + tl.arange(0, SIZES.rows)[None, :], divisor(sums, LOG))
    tl.debug_barrier()
    return before, by_row(work.scale + j * SIZES.rows, SIZES)


@triton.jit
def backward(work, batch, machine, beta, largest, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The positions of a block from the last to the first; beta before it, and the largest that the bound looks at."""
    for back in tl.range(count, disable_licm=True):
        j = count - 1 - back
        seen = with_label(beta, work, batch, machine, first + j, SIZES, LOG)
        store_vector(vector_at(work.beta, (first + j) & 1, SIZES), seen, SIZES)
        tl.debug_barrier()
        before, divided_by = _pull(work, machine, first + j, j, SIZES, LOG)
        if not LOG:
            largest = tl.maximum(largest, scaled(tl.maximum(beta, 1.0), divided_by, LOG))
        beta = scaled(before, divided_by, LOG)
    return beta, largest
