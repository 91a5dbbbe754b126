"""Draws exact samples: the first assignment whose running sum of weights passes a uniform share of all, in float64.

The left side is drawn by the running sums of the left sides, and the right side by those of the assignments with it.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.prior_draws import draw_prior
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE
from emnesy_gpu.kernels.gpu.joint_table.sides import (
    Options,
    Table,
    code_of,
    final_status,
    side_of,
    size_of,
    store_scores,
    store_symbols,
)
from emnesy_gpu.kernels.gpu.joint_table.sums import weighted_left_sums, weights_at


@triton.jit
def _first_left(table, sums_ptr, threshold, OPTIONS: tl.constexpr):
    """For thresholds [SAMPLES] the first left side whose running sum exceeds it, and the running sum before that."""
    passed = tl.zeros(threshold.shape, tl.int32)
    last = tl.max(tl.zeros((1,), tl.int32))
    before = tl.sum(tl.zeros((1,), tl.float64))
    below = tl.zeros(threshold.shape, tl.float64)
    for start in range(0, table.left, OPTIONS.LANES):
        a = start + tl.arange(0, OPTIONS.LANES)
        sums = tl.load(sums_ptr + a, mask=a < table.left, other=0.0)
        running = (before + tl.cumsum(sums, 0))[None, :]
        is_passed = (running <= threshold[:, None]) & (a < table.left)[None, :]
        passed += tl.sum(is_passed.to(tl.int32), 1)
        below = tl.maximum(below, tl.max(tl.where(is_passed, running, 0.0), 1))
        before += tl.sum(sums)
        last = tl.maximum(last, tl.max(tl.where(sums > 0.0, a, 0)))
    return tl.minimum(passed, last), below


@triton.jit
def _first_right(table, weighting, a, threshold, code, OPTIONS: tl.constexpr):
    """For left sides a and thresholds, both [SAMPLES], the first right side whose running sum exceeds the threshold."""
    passed = tl.zeros(threshold.shape, tl.int32)
    last = tl.zeros(threshold.shape, tl.int32)
    before = tl.zeros(threshold.shape, tl.float64)
    for start in range(0, table.right, OPTIONS.LANES):
        b = (start + tl.arange(0, OPTIONS.LANES))[None, :]
        weight = weights_at(table, weighting, a[:, None], b, code, OPTIONS)
        running = before[:, None] + tl.cumsum(weight, 1)
        is_passed = (running <= threshold[:, None]) & (b < table.right)
        passed += tl.sum(is_passed.to(tl.int32), 1)
        before += tl.sum(weight, 1)
        last = tl.maximum(last, tl.max(tl.where(weight > 0.0, b, 0), 1))
    return tl.minimum(passed, last)


@triton.jit(
    do_not_specialize=[
        "n_known", "entries", "n", "k", "n_left", "left", "right", "batch", "least_score", "n_samples", "seed", "first_row"
    ]
)  # fmt: skip
def sample_kernel(
    logits_ptr, label_ptr, symbols_ptr, codes_ptr, known_ptr, drawn_ptr, status_ptr, scores_ptr, sums_ptr, n_known,
    entries, n, k, n_left, left, right, batch, least_score, n_samples, seed, first_row, COMPUTE: tl.constexpr,
    SAMPLES: tl.constexpr, PER_ROW: tl.constexpr, LANES: tl.constexpr, OTHERS: tl.constexpr, SIDES: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All samples of one row, and its status.

    Grid (batch,). logits [batch, n, k], label int64 [batch, entries], drawn int64 [n_samples, batch, n]. Scratch:
    scores float64 [batch, 2 n + left + right], sums float64 [batch, 2, left + right].
    """
    OPTIONS: tl.constexpr = Options(COMPUTE, PER_ROW, LANES, OTHERS, SIDES, ROWS, WIDTH)
    row = tl.program_id(0).to(tl.int64)
    codes_ptr += row * PER_ROW
    table = Table(symbols_ptr, codes_ptr, known_ptr, n_known, entries, n, k, n_left, left, right, batch, least_score)
    logits_ptr += row * n * k
    scores_ptr += row * (2 * n + left + right)
    sides_ptr = sums_ptr + row * 2 * (left + right)
    sums_ptr = sides_ptr + (left + right)
    _, status = store_symbols(table, logits_ptr, scores_ptr, OPTIONS)
    code = code_of(table, label_ptr + row * entries, OPTIONS)
    store_scores(table, logits_ptr, scores_ptr, scores_ptr + 2 * n, OPTIONS)
    weighting, total = weighted_left_sums(table, scores_ptr + 2 * n, sides_ptr, sums_ptr, code, OPTIONS)
    status = final_status(status, total > 0.0)
    tl.store(status_ptr + row, status.to(tl.uint8))
    tl.debug_barrier()
    for start in range(0, n_samples, SAMPLES):
        t = start + tl.arange(0, SAMPLES)
        out_ptr = drawn_ptr + (t.to(tl.int64) * batch + row) * n
        counter = Counter(seed, t, first_row.to(tl.int64) + row)
        if status == POSSIBLE:
            threshold = uniforms_float64(counter, 0)[0] * total
            a, below = _first_left(table, sums_ptr, threshold, OPTIONS)
            b = _first_right(table, weighting, a, threshold - below, code, OPTIONS)
            for i in range(n):
                stride, is_left = side_of(table, i)
                z = tl.where(is_left, a, b) // stride % size_of(table, i)
                tl.store(out_ptr + i, z.to(tl.int64), mask=t < n_samples)
        else:
            for i in range(n):
                uniform = uniforms_float64(counter, i)[0]
                z = draw_prior(logits_ptr + i * k, uniform, size_of(table, i), COMPUTE)
                tl.store(out_ptr + i, z.to(tl.int64), mask=t < n_samples)
