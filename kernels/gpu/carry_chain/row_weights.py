"""Computes with weights of sums of digits and of carries, a thread for each row: tuples of tensors [ROWS, 1]."""

import triton
import triton.language as tl

from emnesy_gpu.kernels import carry_chain_config
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import keep, kept, without_first, without_last
from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, exp2

AT_ONCE = tl.constexpr(carry_chain_config.AT_ONCE)


@triton.jit
def weights_of(logits, BASE: tl.constexpr):
    """exp(logit - largest) of a symbol by value, and their sum: NaN if the logits are no prior."""
    high = logits[0]
    for v in tl.static_range(1, BASE):
        high = tl.maximum(high, logits[v])
    weights = ()
    total = tl.zeros_like(high)
    for v in tl.static_range(BASE):
        weight = exp2((logits[v] - high) * LOG2_E)
        total += weight
        weights = weights + (weight,)
    return weights, total


@triton.jit
def keep_weights(rows, first):
    """Puts exp(logit - largest) in the place of the logits of a symbol; returns their sum, NaN if they are no prior."""
    pointers = rows.scratch + first * rows.scratch.shape[0]
    high = tl.full(rows.scratch.shape, float("-inf"), rows.scratch.dtype.element_ty)
    for _ in range(rows.base):
        high = tl.maximum(high, tl.load(pointers))
        pointers += rows.scratch.shape[0]
    total = tl.zeros_like(high)
    for _ in range(rows.base):
        pointers -= rows.scratch.shape[0]
        weight = exp2((tl.load(pointers) - high) * LOG2_E)
        total += weight
        tl.store(pointers, weight)
    return total


@triton.jit
def keep_probabilities(rows, first):
    """Puts the softmax in the place of the logits of a symbol; NaN if it does not exist."""
    by = 1.0 / keep_weights(rows, first)
    pointers = rows.scratch + first * rows.scratch.shape[0]
    for _ in range(rows.base):
        tl.store(pointers, tl.load(pointers) * by)
        pointers += rows.scratch.shape[0]


@triton.jit
def sum_of(weights, table, U: tl.constexpr):
    """sum of weights[v] table[U - v] over the values v for which both have entries."""
    FIRST: tl.constexpr = max(0, U - len(table) + 1)
    LAST: tl.constexpr = min(U, len(weights) - 1)
    if FIRST > LAST:
        total = tl.zeros_like(weights[0])
    else:
        total = weights[FIRST] * table[U - FIRST]
        for v in tl.static_range(FIRST + 1, LAST + 1):
            total = tl.fma(weights[v], table[U - v], total)
    return total


@triton.jit
def convolved(table, weights):
    """The table with one more addend before."""
    sums = ()
    for u in tl.static_range(len(table) + len(weights) - 1):
        sums = sums + (sum_of(weights, table, u),)
    return sums


@triton.jit
def repeated(value, COUNT: tl.constexpr):
    """A tuple of COUNT times the value."""
    values = ()
    for _ in tl.static_range(COUNT):
        values = values + (value,)
    return values


@triton.jit
def kept_products(scratch, weights, table, length, COUNT: tl.constexpr, UP: tl.constexpr):
    """The sums over q < length of weights[q] table[p + q], or of weights[q] table[p - q], for COUNT places p."""
    ROWS: tl.constexpr = scratch.shape[0]
    totals = repeated(tl.zeros(scratch.shape, scratch.dtype.element_ty), COUNT)
    window = kept(scratch, table if UP else table + 1, COUNT)
    own = scratch + weights * ROWS
    beyond = scratch + (table + COUNT if UP else table) * ROWS
    for _ in range(length):
        weight = tl.load(own)
        if not UP:
            window = (tl.load(beyond),) + without_last(window)
        sums = ()
        for p in tl.static_range(COUNT):
            sums = sums + (tl.fma(weight, window[p], totals[p]),)
        totals = sums
        if UP:
            window = without_first(window) + (tl.load(beyond),)
        own += ROWS
        beyond += ROWS if UP else -ROWS
    return totals


@triton.jit
def convolve_kept(rows, weights, table, to, length):
    """Leaves `length` entries of the convolution of a table with the weights of a digit."""
    for start in range(0, length, AT_ONCE):
        keep(rows.scratch, kept_products(rows.scratch, weights, table + start, rows.base, AT_ONCE, False), to + start)


@triton.jit
def carried(message, transfers, OUT: tl.constexpr, IN: tl.constexpr, ADDENDS: tl.constexpr):
    """The sums of message[c] transfers[OUT c' + IN c] over c, by c'."""
    after = ()
    for out in tl.static_range(ADDENDS):
        total = message[0] * transfers[OUT * out]
        for c in tl.static_range(1, ADDENDS):
            total = tl.fma(message[c], transfers[OUT * out + IN * c], total)
        after = after + (total,)
    return after


@triton.jit
def selected(values, index, FIRST: tl.constexpr, STEP: tl.constexpr, COUNT: tl.constexpr):
    """values[FIRST + STEP index], for an index below COUNT."""
    value = values[FIRST]
    for c in tl.static_range(1, COUNT):
        value = tl.where(index == c, values[FIRST + STEP * c], value)
    return value


@triton.jit
def replaced(values, index, value):
    """The values, with another one at the index."""
    others = ()
    for c in tl.static_range(len(values)):
        others = others + (tl.where(index == c, value, values[c]),)
    return others
