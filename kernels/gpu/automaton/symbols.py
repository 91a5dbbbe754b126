"""The weights of classes of values, and what the label says about states."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.machine import LARGEST_CLASS, LAYER_SIZES, layer_at
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as LOG_ZERO
from emnesy_gpu.kernels.gpu.common.log2_semiring import log2
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import one, plus_product, zero
from emnesy_gpu.kernels.gpu.common.symbol_priors import row_of, symbols_from


@triton.jit
def label_status(batch, machine, SIZES: tl.constexpr):
    """INVALID_LABEL or POSSIBLE [1, R]."""
    row = row_of(batch, tl.arange(0, SIZES.rows)[None, :])
    code = tl.full((1, SIZES.rows), 0, tl.int32)
    for entry in range(machine.n_entries):
        known = tl.load(batch.label + row * machine.n_entries + entry) >= 0
        code = tl.maximum(code, tl.where(known, POSSIBLE, INVALID_LABEL))
    return code


@triton.jit
def weight_of(weight, LOG: tl.constexpr, COMPUTE: tl.constexpr):
    """Float64 weights of edges or states as numbers of the kind that is computed with."""
    if LOG:
        return tl.where(weight > 0.0, log2(weight), LOG_ZERO)
    else:
        return weight.to(COMPUTE)


@triton.jit
def label_weights(batch, machine, entry, SIZES: tl.constexpr, LOG: tl.constexpr, COMPUTE: tl.constexpr):
    """What an entry of the label says about each state [TILE, R]."""
    state = tl.arange(0, SIZES.tile)[:, None]
    row = row_of(batch, tl.arange(0, SIZES.rows)[None, :])
    code = tl.maximum(tl.load(batch.label + row * machine.n_entries + entry), 0)
    at = (entry * machine.n_emissions + code) * SIZES.n_states + state
    weight = tl.load(machine.emissions + at, mask=state < SIZES.n_states, other=0.0)
    return weight_of(weight, LOG, COMPUTE)


@triton.jit
def store_class_weights(
    weight_ptr, prior_ptr, machine, first, count, SIZES: tl.constexpr, LOG: tl.constexpr, MAX: tl.constexpr
):  # fmt: skip
    """The sums (or maxima) [count, C + 1, R] of the priors of each class; class C has no values."""
    COMPUTE: tl.constexpr = prior_ptr.dtype.element_ty
    K: tl.constexpr = SIZES.n_values
    C: tl.constexpr = SIZES.n_classes
    R: tl.constexpr = SIZES.rows
    klass = tl.max_contiguous(tl.arange(0, SIZES.class_tile)[:, None], (1, 1))
    for start in tl.range(0, count * R, SIZES.symbols, disable_licm=True):
        symbol = symbols_from(start, SIZES)
        exists = symbol < count * R
        layer = layer_at(machine, tl.where(exists, first + symbol // R, first), SIZES)
        table = machine.class_first + layer * (C + 1) + klass
        begin = tl.load(table, mask=klass < C, other=0)
        end = tl.load(table + 1, mask=klass < C, other=0)
        largest = tl.load(machine.sizes + layer * LAYER_SIZES + LARGEST_CLASS)
        weight = tl.full((SIZES.class_tile, SIZES.symbols), zero(LOG), COMPUTE)
        for d in range(tl.max(largest)):
            inside = exists & (begin + d < end)
            value = tl.load(machine.class_values + layer * K + begin + d, mask=inside, other=0)
            prior = tl.load(prior_ptr + ((symbol // R) * K + value) * R + symbol % R, mask=inside, other=zero(LOG))
            weight = plus_product(weight, prior, one(LOG), LOG, MAX)
        at = ((symbol // R) * (C + 1) + klass) * R + symbol % R
        tl.store(weight_ptr + at, weight, mask=exists & (klass <= C))
