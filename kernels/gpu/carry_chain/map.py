"""Finds the most probable digits given the label: max-product over the carry chain in float64, two or more addends.

Suffix tables h_j(r) = max_d l_j(d) + h_{j+1}(r - d) take the place of convolutions; ties go to the smallest carry-in,
then to the smallest d_1, d_2, ... of the position nearest the top.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, final_status, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.linear_sums import at, places
from emnesy_gpu.kernels.gpu.carry_chain.sum_tables import Options, Samples, entry
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE

NEVER = tl.constexpr(float("-inf"))


@triton.jit
def _scores(pointers, samples, WIDTH: tl.constexpr):
    """Logits of one symbol as float64 [S, WIDTH], -inf beyond base, 0 for absent samples."""
    value = tl.arange(0, WIDTH)[None, :]
    inside = value < samples.base
    scores = bounded(tl.load(pointers + value, mask=samples.present & inside, other=0.0)).to(tl.float64)
    return tl.where(inside, scores, NEVER)


@triton.jit
def _first_argmax(scores):
    """The smallest value [S, 1] of the largest score of a row [S, WIDTH]."""
    value = tl.arange(0, scores.shape[1])[None, :]
    best = scores == tl.max(scores, 1, keep_dims=True)
    return tl.min(tl.where(best, value, scores.shape[1] - 1), 1, keep_dims=True)


@triton.jit
def _prepend(after, pointers, samples):
    """h_j from h_{j+1}, [S, SUMS]. Rotations carry nothing but -inf round the end of a table."""
    SUMS: tl.constexpr = after.shape[1]
    scores = _scores(pointers, samples, SUMS)
    before = (places(after) - 1) & (SUMS - 1)
    best = tl.full(after.shape, NEVER, tl.float64)
    for v in range(samples.base):
        score = at(scores, v) + after
        best = tl.where(score > best, score, best)
        after = tl.gather(after, before, 1)
    return best


@triton.jit
def _suffix_tables(pointers, samples, OPTIONS: tl.constexpr):
    """h_1 .. h_k of the position whose logits start at pointers [S, 1]."""
    sums = tl.zeros(samples.present.shape, tl.int32) + tl.arange(0, OPTIONS.SUMS)[None, :]
    table = tl.where(sums == 0, 0.0, NEVER).to(tl.float64)
    tables = ()
    for j in tl.static_range(OPTIONS.ADDENDS - 1, -1, -1):
        table = _prepend(table, pointers + j * samples.step, samples)
        tables = (table,) + tables
    return tables


@triton.jit
def _log_normaliser(pointers, samples, WIDTH: tl.constexpr):
    """The logarithm of the sum of a symbol's exponentials [S, 1]; NaN if its logits are no prior."""
    scores = _scores(pointers, samples, WIDTH)
    high = tl.max(scores, 1, keep_dims=True)
    total = tl.sum(exp2((scores - high) * LOG2_E), 1, keep_dims=True)
    return tl.where(total == total, high + log2(total) * LN_2, total)


@triton.jit
def _forward(samples, digits_ptr, OPTIONS: tl.constexpr):
    """Leaves the best score of every carry into every position in the output, as bits.

    Returns those of the top [S, SUMS], the log normaliser of all symbols [S, 1] and the status [S, 1].
    """
    present = samples.present
    base = samples.base
    sums = tl.zeros(present.shape, tl.int32) + tl.arange(0, OPTIONS.SUMS)[None, :]
    best = tl.where(sums == 0, 0.0, NEVER).to(tl.float64)
    normaliser = tl.zeros(present.shape, tl.float64)
    code = tl.full(present.shape, POSSIBLE, tl.int32)
    for back in range(samples.n_digits):
        i = samples.n_digits - 1 - back
        stored = present & (samples.partial_sum < OPTIONS.ADDENDS)
        pointers = digits_ptr + samples.partial_sum * samples.n_digits + i
        tl.store(pointers, best.to(tl.int64, bitcast=True), mask=stored)
        digit, digit_code = checked_digit(samples.label + i, present, base)
        code = tl.maximum(code, digit_code)
        for j in tl.static_range(OPTIONS.ADDENDS):
            log_sum = _log_normaliser(samples.logits + j * samples.step + i * base, samples, OPTIONS.WIDTH)
            code = tl.maximum(code, tl.where(log_sum == log_sum, POSSIBLE, INVALID_LOGITS))
            normaliser += log_sum
        tables = _suffix_tables(samples.logits + i * base, samples, OPTIONS)
        after = tl.full(best.shape, NEVER, tl.float64)
        for c in tl.static_range(OPTIONS.ADDENDS):
            index = digit + base * sums - c
            inside = (sums < OPTIONS.ADDENDS) & (index >= 0) & (index < OPTIONS.SUMS)
            score = at(best, c) + tl.gather(tables[0], tl.where(inside, index, 0), 1)
            after = tl.where(inside & (score > after), score, after)
        best = after
    return best, normaliser, code


@triton.jit
def _first_best(scores, table, remainder, samples):
    """The smallest digit [S, 1] of the best score with the digits after it, which have h [S, SUMS]."""
    left = remainder - samples.value
    inside = (left >= 0) & (left < table.shape[1])
    return _first_argmax(tl.where(inside, scores + tl.gather(table, tl.where(inside, left, 0), 1), NEVER))


@triton.jit
def _trace(samples, digits_ptr, carry, possible, OPTIONS: tl.constexpr):
    """Overwrites the scores in the output with the digits, from the carry [S, 1] out of the top position down."""
    present = samples.present
    base = samples.base
    for i in range(samples.n_digits):
        tables = _suffix_tables(samples.logits + i * base, samples, OPTIONS)
        digit, digit_code = checked_digit(samples.label + i, present, base)
        total = digit + base * carry
        best = tl.full(present.shape, NEVER, tl.float64)
        # The scores were stored by other threads, and are about to be overwritten.
        tl.debug_barrier()
        for c in tl.static_range(OPTIONS.ADDENDS):
            stored = tl.load(digits_ptr + c * samples.n_digits + i, mask=present, other=0)
            score = stored.to(tl.float64, bitcast=True) + entry(tables[0], total - c)
            carry = tl.where((score > best) | (c == 0), c, carry)
            best = tl.where(score > best, score, best)
        tl.debug_barrier()
        remainder = total - carry
        for j in tl.static_range(OPTIONS.ADDENDS):
            scores = _scores(samples.logits + j * samples.step + i * base, samples, OPTIONS.WIDTH)
            chosen = remainder
            if j + 1 < OPTIONS.ADDENDS:
                chosen = _first_best(scores, tables[j + 1], remainder, samples)
            remainder -= chosen
            chosen = tl.where(possible, chosen, _first_argmax(scores))
            tl.store(digits_ptr + j * samples.n_digits + i, chosen.to(tl.int64), mask=present)


@triton.jit(do_not_specialize=["batch", "n_digits"])
def map_kernel(
    logits_ptr, label_ptr, digits_ptr, log_joint_ptr, status_ptr, batch, n_digits,
    ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, SAMPLES: tl.constexpr, WIDTH: tl.constexpr,
    SUMS: tl.constexpr,
):  # fmt: skip
    """SAMPLES samples, a tile [SAMPLES, SUMS] over the partial sums; positions forwards, then backwards along the path.

    Grid (ceil(batch / SAMPLES),). logits [batch, ADDENDS, n_digits, BASE], digits int64 [batch, ADDENDS, n_digits].
    """
    OPTIONS: tl.constexpr = Options(ADDENDS, SUMS, WIDTH, tl.float64)
    row = tl.program_id(0).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)[:, None]
    present = row < batch
    logits_ptr += row * (ADDENDS * n_digits * BASE)
    digits_ptr += row * (ADDENDS * n_digits)
    label_ptr += row * (N_EXTRA + n_digits)
    step = n_digits * BASE
    value = tl.arange(0, WIDTH)[None, :]

    carry, code = top_carry(label_ptr, present, N_EXTRA, BASE)
    partial_sum = tl.arange(0, SUMS)[None, :]
    samples = Samples(logits_ptr, label_ptr + N_EXTRA, present, n_digits, BASE, step, partial_sum, value)
    last, normaliser, chain_code = _forward(samples, digits_ptr, OPTIONS)
    code = tl.maximum(code, chain_code)
    score = entry(last, carry)
    possible = (score > NEVER) & (carry < ADDENDS) & (code != INVALID_LABEL)
    code = final_status(code, possible)
    log_joint = tl.where(possible, score - normaliser, NEVER)
    tl.store(log_joint_ptr + row, log_joint.to(log_joint_ptr.dtype.element_ty), mask=present)
    tl.store(status_ptr + row, code.to(tl.uint8), mask=present)
    _trace(samples, digits_ptr, carry, possible, OPTIONS)
