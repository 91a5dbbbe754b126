"""Finds the most probable assignment: the first of the list that has the largest score."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.status import POSSIBLE
from emnesy_gpu.kernels.gpu.enumeration.scores import (
    NEG_INF,
    Listed,
    Options,
    check_row,
    final_status,
    scores,
    symbol_tile,
)


@triton.jit
def _largest_score(logits_ptr, listed, OPTIONS: tl.constexpr):
    """The largest score and the first assignment that has it."""
    best = tl.max(tl.full((1,), NEG_INF, tl.float64))
    index = tl.max(tl.zeros((1,), tl.int32))
    for start in range(0, listed.n_assignments, OPTIONS.BLOCK):
        m = start + tl.arange(0, OPTIONS.BLOCK)
        score = scores(logits_ptr, listed, m, OPTIONS.COMPUTE)
        high = tl.max(score)
        first = tl.min(tl.where(score == high, m, listed.n_assignments - 1))
        index = tl.where(high > best, first, index)
        best = tl.maximum(best, high)
    return best, index


@triton.jit(do_not_specialize=["n_assignments", "n", "k"])
def map_kernel(
    logits_ptr, label_ptr, assignments_ptr, chosen_ptr, log_joint_ptr, status_ptr, n_assignments, n, k,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The most probable assignment of one row, its log probability, and status.

    Grid (batch,). logits [batch, n, k], assignments uint8 [n_assignments, n], chosen int64 [batch, n].
    """
    OPTIONS: tl.constexpr = Options(log_joint_ptr.dtype.element_ty, BLOCK, ROWS, WIDTH)
    listed = Listed(assignments_ptr, n_assignments, n, k)
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    log_total, code = check_row(logits_ptr, label_ptr + row, listed, OPTIONS)
    best, index = _largest_score(logits_ptr, listed, OPTIONS)
    code = final_status(code, best)
    for first in range(0, n, ROWS):
        logits, _, _ = symbol_tile(logits_ptr, listed, first, OPTIONS)
        high = tl.max(logits, 1, keep_dims=True)
        largest = tl.min(tl.where(logits == high, tl.arange(0, WIDTH)[None, :], k - 1), 1)
        symbol = first + tl.arange(0, ROWS)
        from_list = tl.load(assignments_ptr + index * n + symbol, mask=symbol < n, other=0).to(tl.int32)
        chosen = tl.where(code == POSSIBLE, from_list, largest)
        tl.store(chosen_ptr + row * n + symbol, chosen.to(tl.int64), mask=symbol < n)
    tl.store(log_joint_ptr + row, tl.where(code == POSSIBLE, best - log_total, NEG_INF).to(OPTIONS.COMPUTE))
    tl.store(status_ptr + row, code.to(tl.uint8))
