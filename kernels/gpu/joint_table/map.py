"""Finds the most probable assignment: the first one in lexicographic order that has the largest score."""

import triton
import triton.language as tl

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
from emnesy_gpu.kernels.gpu.joint_table.sums import largest_score


@triton.jit
def _largest_values(table, logits_ptr, symbols_ptr, symbol, OPTIONS: tl.constexpr):
    """The first best value of symbols [ROWS]."""
    high = tl.load(symbols_ptr + 2 * symbol, mask=symbol < table.n, other=0.0)
    size = size_of(table, symbol)
    best = size - 1
    for start in range(0, table.k, OPTIONS.WIDTH):
        value = start + tl.arange(0, OPTIONS.WIDTH)[None, :]
        inside = value < size[:, None]
        logits = load_float64(logits_ptr + symbol[:, None] * table.k + value, inside, OPTIONS.COMPUTE)
        best = tl.minimum(best, tl.min(tl.where(inside & (logits == high[:, None]), value, best[:, None]), 1))
    return tl.maximum(best, 0)


@triton.jit(do_not_specialize=["n_known", "entries", "n", "k", "n_left", "left", "right", "batch", "least_score"])
def map_kernel(
    logits_ptr, label_ptr, symbols_ptr, codes_ptr, known_ptr, chosen_ptr, log_joint_ptr, status_ptr, possible_ptr,
    scores_ptr, n_known, entries, n, k, n_left, left, right, batch, least_score, PER_ROW: tl.constexpr, LANES: tl.constexpr, OTHERS: tl.constexpr,
    SIDES: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The most probable assignment of one row, its log probability, status, and whether that is POSSIBLE.

    Grid (batch,). logits [batch, n, k], label int64 [batch, entries], chosen int64 [batch, n]. Scratch: scores float64
    [batch, 2 n + left + right].
    """
    OPTIONS: tl.constexpr = Options(log_joint_ptr.dtype.element_ty, PER_ROW, LANES, OTHERS, SIDES, ROWS, WIDTH)
    row = tl.program_id(0).to(tl.int64)
    codes_ptr += row * PER_ROW
    table = Table(symbols_ptr, codes_ptr, known_ptr, n_known, entries, n, k, n_left, left, right, batch, least_score)
    logits_ptr += row * n * k
    scores_ptr += row * (2 * n + left + right)
    log_total, status = store_symbols(table, logits_ptr, scores_ptr, OPTIONS)
    code = code_of(table, label_ptr + row * entries, OPTIONS)
    store_scores(table, logits_ptr, scores_ptr, scores_ptr + 2 * n, OPTIONS)
    high, index = largest_score(table, scores_ptr + 2 * n, code, OPTIONS)
    status = final_status(status, high > NEG_INF)
    for first in range(0, n, ROWS):
        symbol = first + tl.arange(0, ROWS)
        chosen = tl.zeros((ROWS,), tl.int32)
        if status == POSSIBLE:
            stride, is_left = side_of(table, symbol)
            side = tl.where(is_left, index // right, index % right)
            chosen = side // stride % tl.maximum(size_of(table, symbol), 1)
        else:
            chosen = _largest_values(table, logits_ptr, scores_ptr, symbol, OPTIONS)
        tl.store(chosen_ptr + row * n + symbol, chosen.to(tl.int64), mask=symbol < n)
    tl.store(log_joint_ptr + row, tl.where(status == POSSIBLE, high - log_total, NEG_INF).to(OPTIONS.COMPUTE))
    tl.store(status_ptr + row, status.to(tl.uint8))
    tl.store(possible_ptr + row, status == POSSIBLE)
