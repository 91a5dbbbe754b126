"""Priors of the symbols, the weights of classes of values, and what the label says about states."""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels import status
from emnesy_gpu.kernels.gpu.automaton.machine import LARGEST_CLASS, LAYER_SIZES, layer_at
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as LOG_ZERO
from emnesy_gpu.kernels.gpu.common.log2_semiring import log2
from emnesy_gpu.kernels.gpu.common.sum_product import constant, one, over, plus_product, softmax, zero

POSSIBLE = tl.constexpr(status.POSSIBLE)
INVALID_LOGITS = tl.constexpr(status.INVALID_LOGITS)
INVALID_LABEL = tl.constexpr(status.INVALID_LABEL)


class Batch(NamedTuple):
    """Where the rows of a program are, R of them from the first on. Missing rows stand for the last."""

    logits: object  # [batch, n, K]
    label: object  # int32 [batch, M]
    first: object  # int64
    size: object
    n: object


@triton.jit
def row_of(batch, r):
    """The number of row r of the program in the batch."""
    return tl.minimum(batch.first + r, batch.size - 1)


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
def _symbols_from(start, SIZES: tl.constexpr):
    """Symbols [1, SYMBOLS], not known to be neighbours: threads hold values of one symbol in all tiles."""
    return tl.max_contiguous(start + tl.arange(0, SIZES.symbols)[None, :], (1, 1))


@triton.jit
def store_priors(prior_ptr, batch, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The priors [count, K, R] of the symbols from the first on; INVALID_LOGITS or POSSIBLE [1, R].

    A symbol whose logits are no prior gets the uniform one.
    """
    COMPUTE: tl.constexpr = prior_ptr.dtype.element_ty
    K: tl.constexpr = SIZES.n_values
    R: tl.constexpr = SIZES.rows
    value = tl.max_contiguous(tl.arange(0, SIZES.value_tile)[:, None], (1, 1))
    code = tl.full((1, SIZES.symbols), 0, tl.int32)
    uniform = over(one(LOG), constant(tl.full((1, 1), K, tl.int32), tl.zeros((1, 1), COMPUTE), LOG), LOG)
    for start in tl.range(0, count * R, SIZES.symbols, disable_licm=True):
        symbol = _symbols_from(start, SIZES)
        exists = symbol < count * R
        inside = exists & (value < K)
        r = symbol % R
        at = (row_of(batch, r) * batch.n + first + symbol // R) * K
        logits = tl.load(batch.logits + at + value, mask=inside, other=float("-inf")).to(COMPUTE)
        prior, sums = softmax(tl.where(exists, logits, 0.0), 0, LOG)
        valid = sums == sums
        prior = tl.where(valid, prior, uniform)
        tl.store(prior_ptr + (symbol // R * K * R + r) + value * R, prior, mask=inside)
        code = tl.maximum(code, tl.where(valid, POSSIBLE, INVALID_LOGITS))
    return tl.max(tl.reshape(code, (SIZES.symbols // R, R)), 0)[None, :]


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
        symbol = _symbols_from(start, SIZES)
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
