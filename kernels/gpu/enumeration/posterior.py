"""Computes marginals, or the gradient: an assignment adds its share of all weights to each of its values."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, log2
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE
from emnesy_gpu.kernels.gpu.enumeration.scores import (
    NEG_INF,
    Listed,
    Options,
    check_row,
    exponentials,
    final_status,
    scores,
    symbol_tile,
    total_weight,
    weights,
)

VALUES_AT_ONCE = tl.constexpr(4)


@triton.jit
def _store_marginals(logits_ptr, listed, marginals_ptr, score, high, total, OPTIONS: tl.constexpr):
    """Sums of the weights [n, k], block after block; score [BLOCK]: that of a list of one block."""
    value = tl.arange(0, VALUES_AT_ONCE)
    scale = (1.0 / total).to(OPTIONS.COMPUTE)
    for start in range(0, listed.n_assignments, OPTIONS.BLOCK):
        m = start + tl.arange(0, OPTIONS.BLOCK)
        inside = m < listed.n_assignments
        if listed.n_assignments > OPTIONS.BLOCK:
            score = scores(logits_ptr, listed, m, OPTIONS.COMPUTE)
            tl.debug_barrier()
        weight = weights(score, high, OPTIONS.COMPUTE) * scale
        for i in range(listed.n):
            z = tl.load(listed.assignments + m * listed.n + i, mask=inside, other=0).to(tl.int32)
            for first in range(0, listed.k, VALUES_AT_ONCE):
                chosen = z[:, None] == first + value[None, :]
                marginal = tl.sum(tl.where(chosen, weight[:, None], 0.0), 0)
                pointers = marginals_ptr + i * listed.k + first + value
                mask = first + value < listed.k
                if start > 0:
                    # Every warp loads what one of them has stored and stores again: barriers before and after.
                    marginal += tl.load(pointers, mask=mask, other=0.0)
                    tl.debug_barrier()
                tl.store(pointers, marginal, mask=mask)


@triton.jit
def _store_priors(logits_ptr, listed, out_ptr, OPTIONS: tl.constexpr):
    """The softmax of every symbol, [n, k]."""
    for first in range(0, listed.n, OPTIONS.ROWS):
        logits, offsets, mask = symbol_tile(logits_ptr, listed, first, OPTIONS)
        weights, _, total = exponentials(logits)
        tl.store(out_ptr + offsets, (weights * (1.0 / total)).to(OPTIONS.COMPUTE), mask=mask)


@triton.jit
def _store_gradient(logits_ptr, listed, out_ptr, code, scale, OPTIONS: tl.constexpr):
    """(softmax - marginals) * scale in place of the marginals [n, k]; 0 in a row that is not possible."""
    possible = tl.full((1, 1), code, tl.int32) == POSSIBLE
    for first in range(0, listed.n, OPTIONS.ROWS):
        logits, offsets, mask = symbol_tile(logits_ptr, listed, first, OPTIONS)
        weights, _, total = exponentials(logits)
        prior = (weights * (1.0 / total)).to(OPTIONS.COMPUTE)
        # Every warp loads what one of them has stored and stores again: a barrier before, and one after.
        tl.debug_barrier()
        marginals = tl.load(out_ptr + offsets, mask=mask & possible, other=0.0)
        tl.debug_barrier()
        tl.store(out_ptr + offsets, tl.where(possible, (prior - marginals) * scale, 0.0), mask=mask)


@triton.jit(do_not_specialize=["n_assignments", "n", "k", "scale_high", "scale_low"])
def posterior_kernel(
    logits_ptr, label_ptr, assignments_ptr, out_ptr, evidence_ptr, status_ptr, n_assignments, n, k, scale_high,
    scale_low, GRADIENT: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Marginals or the gradient, log evidence and status of one row.

    Grid (batch,). logits [batch, n, k], assignments uint8 [n_assignments, n], out [batch, n, k].
    """
    OPTIONS: tl.constexpr = Options(evidence_ptr.dtype.element_ty, BLOCK, ROWS, WIDTH)
    listed = Listed(assignments_ptr, n_assignments, n, k)
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    out_ptr += row * n * k
    log_total, code = check_row(logits_ptr, label_ptr + row, listed, OPTIONS)
    high, total, score = total_weight(logits_ptr, listed, OPTIONS, OPTIONS.COMPUTE)
    code = final_status(code, high)
    log_evidence = high
    if code == POSSIBLE:
        log_evidence = high - log_total + LN_2 * log2(total)
        _store_marginals(logits_ptr, listed, out_ptr, score, high, total, OPTIONS)
    else:
        log_evidence = NEG_INF + tl.zeros_like(high)
        if not GRADIENT:
            _store_priors(logits_ptr, listed, out_ptr, OPTIONS)
    if GRADIENT:
        scale = tl.zeros((1, 1), OPTIONS.COMPUTE) + scale_high + scale_low
        _store_gradient(logits_ptr, listed, out_ptr, code, scale, OPTIONS)
    tl.store(evidence_ptr + row, log_evidence.to(OPTIONS.COMPUTE))
    tl.store(status_ptr + row, code.to(tl.uint8))
