"""Exact inference over a list of assignments: the kernels. One program takes one row of the batch.

Assignments lie in lanes. The score of one is the sum of its raw logits, in float64 and in ascending order of the symbols,
so that logits of 1e4 lose nothing and ties are the same on every back end. Large lists go block by block.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.philox import uniforms_float64
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE

NEG_INF = tl.constexpr(float("-inf"))
# Values whose marginals are summed together.
VALUES = tl.constexpr(4)


@triton.jit
def _logits(logits_ptr, offsets, mask, COMPUTE: tl.constexpr):
    return tl.load(logits_ptr + offsets, mask=mask, other=NEG_INF).to(COMPUTE).to(tl.float64)


@triton.jit
def _symbol_tile(logits_ptr, first, n, k, COMPUTE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Logits [ROWS, WIDTH] of symbols from the first on, their offsets, and where there are any; -inf elsewhere."""
    symbol = first + tl.arange(0, ROWS)[:, None]
    value = tl.arange(0, WIDTH)[None, :]
    offsets = symbol * k + value
    mask = (symbol < n) & (value < k)
    return _logits(logits_ptr, offsets, mask, COMPUTE), offsets, mask


@triton.jit
def _exponentials(logits):
    """exp(logits - largest of the symbol), the largest [ROWS, 1] (0 if there is none), and their sum."""
    high = tl.max(logits, 1, keep_dims=True)
    high = tl.where(high > NEG_INF, high, 0.0)
    weights = exp2((logits - high) * LOG2_E)
    return weights, high, tl.sum(weights, 1, keep_dims=True)


@triton.jit
def _check_row(
    logits_ptr, label_ptr, n, k, COMPUTE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """The sum over symbols of log sum_v exp(logit), and the status as far as the input goes."""
    log_total = tl.zeros((1,), tl.float64)
    broken = tl.zeros((1,), tl.int32)
    for first in range(0, n, ROWS):
        logits, _, mask = _symbol_tile(logits_ptr, first, n, k, COMPUTE, ROWS, WIDTH)
        _, high, total = _exponentials(logits)
        exists = tl.max(mask.to(tl.int32), 1, keep_dims=True) > 0
        terms = tl.where(exists & (total >= 1.0), high + LN_2 * log2(tl.where(total >= 1.0, total, 1.0)), 0.0)
        log_total += tl.sum(terms)
        too_large = tl.max((mask & ~(logits < float("inf"))).to(tl.int32), 1, keep_dims=True)
        nothing = (exists & ~(tl.max(logits, 1, keep_dims=True) > NEG_INF)).to(tl.int32)
        broken += tl.sum(too_large + nothing)
    label = tl.load(label_ptr)
    code = tl.where(broken > 0, INVALID_LOGITS, POSSIBLE)
    code = tl.where((label < 0) | (label > 1), INVALID_LABEL, code)
    return tl.sum(log_total), tl.max(code)


@triton.jit
def _scores(logits_ptr, assignments_ptr, m, n_assignments, n, k, COMPUTE: tl.constexpr):
    """The sum of the logits of assignment m, -inf beyond the list."""
    inside = m < n_assignments
    total = tl.zeros(m.shape, tl.float64)
    for i in range(n):
        value = tl.load(assignments_ptr + m * n + i, mask=inside, other=0).to(tl.int32)
        total += _logits(logits_ptr, i * k + tl.minimum(value, k - 1), inside, COMPUTE)
    return tl.where(inside, total, NEG_INF)


@triton.jit
def _largest_score(
    logits_ptr, assignments_ptr, n_assignments, n, k, COMPUTE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The largest score and the first assignment that has it."""
    best = tl.max(tl.full((1,), NEG_INF, tl.float64))
    index = tl.max(tl.zeros((1,), tl.int32))
    for start in range(0, n_assignments, BLOCK):
        m = start + tl.arange(0, BLOCK)
        score = _scores(logits_ptr, assignments_ptr, m, n_assignments, n, k, COMPUTE)
        high = tl.max(score)
        first = tl.min(tl.where(score == high, m, n_assignments - 1))
        index = tl.where(high > best, first, index)
        best = tl.maximum(best, high)
    return best, index


@triton.jit
def _final_status(code, best_score):
    """The status of valid input is that of its best score."""
    return tl.where((code == POSSIBLE) & ~(best_score > NEG_INF), IMPOSSIBLE, code)


@triton.jit
def _weights(score, high, WEIGHT: tl.constexpr):
    return exp2(((score - high) * LOG2_E).to(WEIGHT))


@triton.jit
def _total_weight(
    logits_ptr, assignments_ptr, n_assignments, n, k,
    COMPUTE: tl.constexpr, WEIGHT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The largest score and the sum of exp(score - largest); the scores of the last block."""
    score = tl.full((BLOCK,), NEG_INF, tl.float64)
    high = tl.max(score)
    total = tl.sum(tl.zeros((1,), tl.float64))
    for start in range(0, n_assignments, BLOCK):
        m = start + tl.arange(0, BLOCK)
        score = _scores(logits_ptr, assignments_ptr, m, n_assignments, n, k, COMPUTE)
        before = high
        high = tl.maximum(before, tl.max(score))
        anchor = tl.where(high > NEG_INF, high, 0.0)
        total = total * exp2((before - anchor) * LOG2_E) + tl.sum(_weights(score, anchor, WEIGHT).to(tl.float64))
    return high, total, score


@triton.jit
def _store_marginals(
    logits_ptr, assignments_ptr, marginals_ptr, score, high, total, n_assignments, n, k,
    COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of the weights, block after block; score: those of a list of one block."""
    value = tl.arange(0, VALUES)
    scale = (1.0 / total).to(COMPUTE)
    for start in range(0, n_assignments, BLOCK):
        m = start + tl.arange(0, BLOCK)
        inside = m < n_assignments
        if n_assignments > BLOCK:
            score = _scores(logits_ptr, assignments_ptr, m, n_assignments, n, k, COMPUTE)
            tl.debug_barrier()
        weight = _weights(score, high, COMPUTE) * scale
        for i in range(n):
            z = tl.load(assignments_ptr + m * n + i, mask=inside, other=0).to(tl.int32)
            for first in range(0, k, VALUES):
                chosen = z[:, None] == first + value[None, :]
                marginal = tl.sum(tl.where(chosen, weight[:, None], 0.0), 0)
                pointers = marginals_ptr + i * k + first + value
                mask = first + value < k
                if start > 0:
                    # Every warp loads what one of them has stored and stores again: barriers before and after.
                    marginal += tl.load(pointers, mask=mask, other=0.0)
                    tl.debug_barrier()
                tl.store(pointers, marginal, mask=mask)


@triton.jit
def _store_priors(
    logits_ptr, marginals_ptr, n, k, COMPUTE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    for first in range(0, n, ROWS):
        logits, offsets, mask = _symbol_tile(logits_ptr, first, n, k, COMPUTE, ROWS, WIDTH)
        weights, _, total = _exponentials(logits)
        tl.store(marginals_ptr + offsets, (weights * (1.0 / total)).to(COMPUTE), mask=mask)


@triton.jit(do_not_specialize=["n_assignments", "n", "k"])
def posterior_kernel(
    logits_ptr, label_ptr, assignments_ptr, marginals_ptr, evidence_ptr, status_ptr, n_assignments, n, k,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Marginals, log evidence and status of one row.

    Grid (batch,). logits [batch, n, k], assignments uint8 [n_assignments, n], marginals [batch, n, k].
    """
    COMPUTE: tl.constexpr = evidence_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    marginals_ptr += row * n * k
    log_total, code = _check_row(logits_ptr, label_ptr + row, n, k, COMPUTE, ROWS, WIDTH)
    high, total, score = _total_weight(
        logits_ptr, assignments_ptr, n_assignments, n, k, COMPUTE, COMPUTE, BLOCK
    )  # fmt: skip
    code = _final_status(code, high)
    log_evidence = high
    if code == POSSIBLE:
        log_evidence = high - log_total + LN_2 * log2(total)
        _store_marginals(
            logits_ptr, assignments_ptr, marginals_ptr, score, high, total, n_assignments, n, k, COMPUTE, BLOCK
        )  # fmt: skip
    else:
        log_evidence = NEG_INF + tl.zeros_like(high)
        _store_priors(logits_ptr, marginals_ptr, n, k, COMPUTE, ROWS, WIDTH)
    tl.store(evidence_ptr + row, log_evidence.to(COMPUTE))
    tl.store(status_ptr + row, code.to(tl.uint8))


@triton.jit(do_not_specialize=["n_assignments", "n", "k"])
def map_kernel(
    logits_ptr, label_ptr, assignments_ptr, chosen_ptr, log_joint_ptr, status_ptr, n_assignments, n, k,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The most probable assignment of one row, its log probability, and status.

    Grid (batch,). logits [batch, n, k], assignments uint8 [n_assignments, n], chosen int64 [batch, n].
    """
    COMPUTE: tl.constexpr = log_joint_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    log_total, code = _check_row(logits_ptr, label_ptr + row, n, k, COMPUTE, ROWS, WIDTH)
    best, index = _largest_score(logits_ptr, assignments_ptr, n_assignments, n, k, COMPUTE, BLOCK)
    code = _final_status(code, best)
    for first in range(0, n, ROWS):
        logits, _, _ = _symbol_tile(logits_ptr, first, n, k, COMPUTE, ROWS, WIDTH)
        high = tl.max(logits, 1, keep_dims=True)
        largest = tl.min(tl.where(logits == high, tl.arange(0, WIDTH)[None, :], k - 1), 1)
        symbol = first + tl.arange(0, ROWS)
        listed = tl.load(assignments_ptr + index * n + symbol, mask=symbol < n, other=0).to(tl.int32)
        chosen = tl.where(code == POSSIBLE, listed, largest)
        tl.store(chosen_ptr + row * n + symbol, chosen.to(tl.int64), mask=symbol < n)
    tl.store(log_joint_ptr + row, tl.where(code == POSSIBLE, best - log_total, NEG_INF).to(COMPUTE))
    tl.store(status_ptr + row, code.to(tl.uint8))


@triton.jit
def _draw_listed(
    logits_ptr, assignments_ptr, threshold, high, n_assignments, n, k, COMPUTE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """For every sample the first assignment whose running sum of weights exceeds the threshold."""
    count = tl.zeros(threshold.shape, tl.int32)
    before = tl.sum(tl.zeros((1,), tl.float64))
    for start in range(0, n_assignments, BLOCK):
        m = start + tl.arange(0, BLOCK)
        weight = _weights(
            _scores(logits_ptr, assignments_ptr, m, n_assignments, n, k, COMPUTE), high, tl.float64
        )  # fmt: skip
        running = before + tl.cumsum(weight, 0)
        passed = (running[None, :] <= threshold[:, None]) & (m < n_assignments)[None, :]
        count += tl.sum(passed.to(tl.int32), 1)
        before += tl.sum(weight)
    return tl.minimum(count, n_assignments - 1)


@triton.jit
def _draw_prior(logits_ptr, uniform, k, COMPUTE: tl.constexpr):
    """A value of one symbol for every sample, from its prior."""
    always = tl.full(uniform.shape, True, tl.int1)
    offset = tl.zeros(uniform.shape, tl.int32)
    high = tl.full(uniform.shape, NEG_INF, tl.float64)
    for v in range(k):
        high = tl.maximum(high, _logits(logits_ptr, offset + v, always, COMPUTE))
    total = tl.zeros(uniform.shape, tl.float64)
    for v in range(k):
        total += exp2((_logits(logits_ptr, offset + v, always, COMPUTE) - high) * LOG2_E)
    running = tl.zeros(uniform.shape, tl.float64)
    count = tl.zeros(uniform.shape, tl.int32)
    for v in range(k):
        running += exp2((_logits(logits_ptr, offset + v, always, COMPUTE) - high) * LOG2_E)
        count += (running <= uniform * total).to(tl.int32)
    return tl.minimum(count, k - 1)


@triton.jit(do_not_specialize=["batch", "n_assignments", "n", "k", "n_samples", "seed", "first_row"])
def sample_kernel(
    logits_ptr, label_ptr, assignments_ptr, drawn_ptr, status_ptr, batch, n_assignments, n, k, n_samples, seed,
    first_row, SAMPLES: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):  # fmt: skip
    """All samples of one row, and its status.

    Grid (batch,). logits [batch, n, k], assignments uint8 [n_assignments, n], drawn int64 [n_samples, batch, n].
    """
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    _, code = _check_row(logits_ptr, label_ptr + row, n, k, COMPUTE, ROWS, WIDTH)
    high, total, _ = _total_weight(
        logits_ptr, assignments_ptr, n_assignments, n, k, COMPUTE, tl.float64, BLOCK
    )  # fmt: skip
    code = _final_status(code, high)
    tl.store(status_ptr + row, code.to(tl.uint8))
    if code == POSSIBLE:
        for start in range(0, n_samples, SAMPLES):
            t = start + tl.arange(0, SAMPLES)
            uniform = uniforms_float64(seed, 0, t, first_row.to(tl.int64) + row)[0]
            m = _draw_listed(
                logits_ptr, assignments_ptr, uniform * total, high, n_assignments, n, k, COMPUTE, BLOCK
            )  # fmt: skip
            out_ptr = drawn_ptr + (t.to(tl.int64) * batch + row) * n
            for i in range(n):
                z = tl.load(assignments_ptr + m * n + i)
                tl.store(out_ptr + i, z.to(tl.int64), mask=t < n_samples)
    else:
        for start in range(0, n_samples, SAMPLES):
            t = start + tl.arange(0, SAMPLES)
            out_ptr = drawn_ptr + (t.to(tl.int64) * batch + row) * n
            for i in range(n):
                uniform = uniforms_float64(seed, i, t, first_row.to(tl.int64) + row)[0]
                z = _draw_prior(logits_ptr + i * k, uniform, k, COMPUTE)
                tl.store(out_ptr + i, z.to(tl.int64), mask=t < n_samples)
