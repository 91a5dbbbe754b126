"""Computes posterior and EM gradient of three or four addends in log2: a sum-product over addends and over positions.

This is for the rows that row_marginals.py does not serve with probabilities: where underflow would count, and where the
label is impossible or the input invalid. A row has a tile, one sum a lane. With the carry c as addend 0, F_j(u) = P(first j + 1
addends sum to u) forwards, and backwards from G_k(t) = beta(c') at t = s + base c': p(d_j = v) is proportional to
p_j(v) sum_u F_{j-1}(u) G_j(u + v).
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, final_status
from emnesy_gpu.kernels.gpu.carry_chain.sum_tables import (
    append_digit,
    entry,
    relative_logit,
    shifted,
    softmax_row,
)
from emnesy_gpu.kernels.gpu.common.log2_semiring import LEAST_LOG2, LN_2, ZERO, add, exp2, log2
from emnesy_gpu.kernels.gpu.common.status import INVALID_LOGITS, POSSIBLE


@triton.jit
def _split(table, after, pointers, high, samples, OPTIONS: tl.constexpr):
    """G_{j-1} from F_{j-1} and G_j [S, SUMS], and the log2 weights of the digit's values, [S, WIDTH]."""
    present = samples.present
    before = tl.full(table.shape, ZERO, OPTIONS.COMPUTE)
    weights = tl.full((table.shape[0], OPTIONS.WIDTH), ZERO, OPTIONS.COMPUTE)
    for v in range(samples.base):
        term = shifted(after, v, ZERO) + relative_logit(pointers + v, high, present, OPTIONS.COMPUTE)
        before = add(before, term)
        joint = table + term
        highest = tl.max(joint, 1, keep_dims=True)
        weight = highest + log2(tl.sum(exp2(joint - highest), 1, keep_dims=True))
        weights = tl.where(samples.value == v, weight, weights)
    return before, weights


@triton.jit
def _carry_table(out_ptr, samples, OPTIONS: tl.constexpr):
    """F_0 [S, SUMS], the forward message, from where _forward left it."""
    present = samples.present
    table = tl.full((present.shape[0], OPTIONS.SUMS), ZERO, OPTIONS.COMPUTE)
    for c in tl.static_range(OPTIONS.ADDENDS):
        table = tl.where(samples.partial_sum == c, tl.load(out_ptr + c * samples.step, mask=present, other=0.0), table)
    return table


@triton.jit
def _digit_tables(table, logits_ptr, samples, OPTIONS: tl.constexpr):
    """F_0 .. F_k, and relative probabilities, largest logits and softmax sums of the k digits of a position."""
    present = samples.present
    tables = (table,)
    rows = ()
    for j in tl.static_range(OPTIONS.ADDENDS):
        pointers = logits_ptr + j * samples.step
        relative, high, total = softmax_row(pointers, present, OPTIONS.COMPUTE, samples.base, OPTIONS.WIDTH)
        table = append_digit(table, pointers, high, present, OPTIONS.COMPUTE, samples.base)
        tables = tables + (table,)
        rows = rows + ((relative, high, total),)
    return tables, rows


@triton.jit
def _forward(samples, out_ptr, OPTIONS: tl.constexpr):
    """Leaves the message into every position in the output, one carry an addend.

    Returns the last message [S, SUMS], its scale [S, 1] and the status [S, 1].
    """
    COMPUTE: tl.constexpr = OPTIONS.COMPUTE
    present = samples.present
    base = samples.base
    sums = tl.zeros(present.shape, tl.int32) + samples.partial_sum
    table = tl.where(sums == 0, 0.0, ZERO).to(COMPUTE)
    scale = tl.zeros(present.shape, COMPUTE)
    code = tl.full(present.shape, POSSIBLE, tl.int32)
    for back in range(samples.n_digits):
        i = samples.n_digits - 1 - back
        for c in tl.static_range(OPTIONS.ADDENDS):
            tl.store(out_ptr + c * samples.step + i * base, tl.maximum(entry(table, c), ZERO), mask=present)
        digit, digit_code = checked_digit(samples.label + i, present, base)
        code = tl.maximum(code, digit_code)
        for j in tl.static_range(OPTIONS.ADDENDS):
            pointers = samples.logits + j * samples.step + i * base
            relative, high, total = softmax_row(pointers, present, COMPUTE, base, OPTIONS.WIDTH)
            table = append_digit(table, pointers, high, present, COMPUTE, base)
            scale -= log2(total)
            code = tl.maximum(code, tl.where(total == total, POSSIBLE, INVALID_LOGITS))
        after = tl.full(table.shape, ZERO, COMPUTE)
        for c in tl.static_range(OPTIONS.ADDENDS):
            after = tl.where(sums == c, tl.maximum(entry(table, digit + base * c), ZERO), after)
        high = tl.max(after, 1, keep_dims=True)
        table = after - high
        scale += high
    return table, scale, code


@triton.jit
def _backward(samples, out_ptr, beta, possible, gradient_scale, OPTIONS: tl.constexpr, GRADIENT: tl.constexpr):
    """Overwrites the forward messages in the output with the results; beta [S, SUMS]: message from the top carry."""
    COMPUTE: tl.constexpr = OPTIONS.COMPUTE
    present = samples.present
    base = samples.base
    for i in range(samples.n_digits):
        digit, digit_code = checked_digit(samples.label + i, present, base)
        after = tl.full((present.shape[0], OPTIONS.SUMS), ZERO, COMPUTE)
        for c in tl.static_range(OPTIONS.ADDENDS):
            after = tl.where(samples.partial_sum == digit + base * c, tl.maximum(entry(beta, c), ZERO), after)
        # The messages were stored by other threads, and are about to be overwritten.
        tl.debug_barrier()
        table = _carry_table(out_ptr + i * base, samples, OPTIONS)
        tl.debug_barrier()
        tables, rows = _digit_tables(table, samples.logits + i * base, samples, OPTIONS)
        for j in tl.static_range(OPTIONS.ADDENDS - 1, -1, -1):
            relative, high, total = rows[j]
            pointers = samples.logits + j * samples.step + i * base
            after, weights = _split(tables[j], after, pointers, high, samples, OPTIONS)
            weights = exp2(weights - tl.max(weights, 1, keep_dims=True))
            weights = tl.where(relative > float("-inf"), weights, 0.0)
            prior = exp2(relative) / total
            result = tl.where(possible, weights / tl.sum(weights, 1, keep_dims=True), prior)
            if GRADIENT:
                result = (prior - result) * gradient_scale
            tl.store(
                out_ptr + j * samples.step + i * base + samples.value, result, mask=present & (samples.value < base)
            )
        beta = after - tl.max(after, 1, keep_dims=True)


class Results(NamedTuple):
    """Where the results of S samples are stored; a pointer is a tensor [S, 1]."""

    marginals: object  # as the logits
    log_evidence: object
    status: object


@triton.jit
def with_logarithms(samples, top, code, results, gradient_scale, OPTIONS: tl.constexpr, GRADIENT: tl.constexpr):
    """The results of the samples that are present, whatever they are."""
    last, scale, chain_code = _forward(samples, results.marginals, OPTIONS)
    code = tl.maximum(code, chain_code)
    evidence = tl.maximum(entry(last, top), ZERO) + scale
    possible = (evidence > LEAST_LOG2) & (top < OPTIONS.ADDENDS) & (code == POSSIBLE)
    code = final_status(code, possible)
    tl.store(results.log_evidence, tl.where(possible, evidence * LN_2, float("-inf")), mask=samples.present)
    tl.store(results.status, code.to(tl.uint8), mask=samples.present)
    beta = tl.where(tl.broadcast_to(samples.partial_sum, last.shape) == top, 0.0, ZERO).to(OPTIONS.COMPUTE)
    _backward(samples, results.marginals, beta, possible, gradient_scale, OPTIONS, GRADIENT)
