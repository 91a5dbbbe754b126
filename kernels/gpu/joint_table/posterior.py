"""Computes marginals, or the gradient: a value of a symbol has the share of the sums of the sides that contain it."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.logits import load_float64
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE
from emnesy_gpu.kernels.gpu.joint_table.sides import (
    NEG_INF,
    Options,
    Table,
    code_of,
    final_status,
    side_of,
    size_of,
    store_scores,
    store_symbols,
)
from emnesy_gpu.kernels.gpu.joint_table.sums import store_right_sums, weighted_left_sums


@triton.jit
def _sums_by_value(table, sums_ptr, i, value, RESTS: tl.constexpr):
    """For values [VALUES] of symbol i the sums of the sides that contain them; sums [left + right]."""
    stride, is_left = side_of(table, i)
    size = size_of(table, i)
    sums_ptr += tl.where(is_left, 0, table.left)
    sides = tl.where(is_left, table.left, table.right) // size
    tile = tl.zeros((RESTS, value.shape[0]), sums_ptr.dtype.element_ty)
    for start in range(0, sides, RESTS):
        rest = start + tl.arange(0, RESTS)[:, None]
        m = (rest // stride * size + value[None, :]) * stride + rest % stride
        tile += tl.load(sums_ptr + m, mask=(rest < sides) & (value < size)[None, :], other=0.0)
    return tl.sum(tile, 0)


@triton.jit
def _prior(table, logits_ptr, symbols_ptr, i, value, OPTIONS: tl.constexpr):
    """The softmax of symbol i at values [VALUES]; 0 for values that it does not have."""
    logits = load_float64(logits_ptr + i * table.k + value, value < size_of(table, i), OPTIONS.COMPUTE)
    weight = exp2((logits - tl.load(symbols_ptr + 2 * i)) * LOG2_E)
    return (weight * (1.0 / tl.load(symbols_ptr + 2 * i + 1))).to(OPTIONS.COMPUTE)


@triton.jit(
    do_not_specialize=[
        "n_known",
        "entries",
        "n",
        "k",
        "n_left",
        "left",
        "right",
        "batch",
        "least_score",
        "scale_high",
        "scale_low",
    ]
)
def posterior_kernel(
    logits_ptr, label_ptr, symbols_ptr, codes_ptr, known_ptr, out_ptr, evidence_ptr, status_ptr, scores_ptr, sums_ptr,
    n_known, entries, n, k, n_left, left, right, batch, least_score, scale_high, scale_low, GRADIENT: tl.constexpr, VALUES: tl.constexpr,
    RESTS: tl.constexpr, PER_ROW: tl.constexpr, LANES: tl.constexpr, OTHERS: tl.constexpr, SIDES: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Marginals or the gradient, log evidence and status of one row.

    Grid (batch,). logits and out [batch, n, k], label int64 [batch, entries]. Scratch: scores float64
    [batch, 2 n + left + right], sums [batch, 2, left + right] of the type of the results.
    """
    OPTIONS: tl.constexpr = Options(evidence_ptr.dtype.element_ty, PER_ROW, LANES, OTHERS, SIDES, ROWS, WIDTH)
    row = tl.program_id(0).to(tl.int64)
    codes_ptr += row * PER_ROW
    table = Table(symbols_ptr, codes_ptr, known_ptr, n_known, entries, n, k, n_left, left, right, batch, least_score)
    logits_ptr += row * n * k
    out_ptr += row * n * k
    scores_ptr += row * (2 * n + left + right)
    sides_ptr = sums_ptr + row * 2 * (left + right)
    sums_ptr = sides_ptr + (left + right)
    log_total, status = store_symbols(table, logits_ptr, scores_ptr, OPTIONS)
    code = code_of(table, label_ptr + row * entries, OPTIONS)
    store_scores(table, logits_ptr, scores_ptr, scores_ptr + 2 * n, OPTIONS)
    weighting, total = weighted_left_sums(table, scores_ptr + 2 * n, sides_ptr, sums_ptr, code, OPTIONS)
    status = final_status(status, total > 0.0)
    log_evidence = tl.zeros_like(total) + NEG_INF
    share = tl.zeros_like(total)
    if status == POSSIBLE:
        store_right_sums(table, weighting, code, sums_ptr + left, OPTIONS)
        log_evidence = weighting.high - log_total + LN_2 * log2(total)
        share = 1.0 / total
    tl.debug_barrier()
    scale = tl.zeros((1,), OPTIONS.COMPUTE) + scale_high + scale_low
    for i in range(n):
        for start in range(0, k, VALUES):
            value = start + tl.arange(0, VALUES)
            out = tl.zeros((VALUES,), OPTIONS.COMPUTE)
            if status == POSSIBLE:
                out = _sums_by_value(table, sums_ptr, i, value, RESTS) * share.to(OPTIONS.COMPUTE)
                if GRADIENT:
                    out = (_prior(table, logits_ptr, scores_ptr, i, value, OPTIONS) - out) * scale
            else:
                if not GRADIENT:
                    out = _prior(table, logits_ptr, scores_ptr, i, value, OPTIONS)
            tl.store(out_ptr + i * k + value, out, mask=value < k)
    tl.store(evidence_ptr + row, log_evidence.to(OPTIONS.COMPUTE))
    tl.store(status_ptr + row, status.to(tl.uint8))
