"""Draws exact samples: the first assignment whose running sum of weights passes a uniform share of all, float64."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.prior_draws import draw_prior
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE
from emnesy_gpu.kernels.gpu.enumeration.scores import (
    Listed,
    Options,
    check_row,
    final_status,
    scores,
    total_weight,
    weights,
)


@triton.jit
def _draw_listed(logits_ptr, listed, threshold, high, OPTIONS: tl.constexpr):
    """For every threshold of [SAMPLES] the first assignment whose running sum of weights exceeds the threshold."""
    count = tl.zeros(threshold.shape, tl.int32)
    before = tl.sum(tl.zeros((1,), tl.float64))
    for start in range(0, listed.n_assignments, OPTIONS.BLOCK):
        m = start + tl.arange(0, OPTIONS.BLOCK)
        weight = weights(scores(logits_ptr, listed, m, OPTIONS.COMPUTE), high, tl.float64)
        running = before + tl.cumsum(weight, 0)
        passed = (running[None, :] <= threshold[:, None]) & (m < listed.n_assignments)[None, :]
        count += tl.sum(passed.to(tl.int32), 1)
        before += tl.sum(weight)
    return tl.minimum(count, listed.n_assignments - 1)


@triton.jit(do_not_specialize=["batch", "n_assignments", "n", "k", "n_samples", "seed", "first_row", "keeping"])
def sample_kernel(
    logits_ptr, label_ptr, assignments_ptr, drawn_ptr, status_ptr, batch, n_assignments, n, k, n_samples, seed,
    first_row, keeping, SAMPLES: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
    COMPUTE: tl.constexpr,
):  # fmt: skip
    """All samples of one row, and its status; nothing if its label is 0 and such rows are kept.

    Grid (batch,). logits [batch, n, k], assignments uint8 [n_assignments, n], drawn int64 [n_samples, batch, n].
    """
    OPTIONS: tl.constexpr = Options(COMPUTE, BLOCK, ROWS, WIDTH)
    listed = Listed(assignments_ptr, n_assignments, n, k)
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    _, code = check_row(logits_ptr, label_ptr + row, listed, OPTIONS)
    high, total, _ = total_weight(logits_ptr, listed, OPTIONS, tl.float64)
    code = final_status(code, high)
    kept = (keeping == 1) & (tl.load(label_ptr + row) == 0)
    n_samples = tl.where(kept, 0, n_samples)
    tl.store(status_ptr + row, code.to(tl.uint8), mask=kept == 0)
    if code == POSSIBLE:
        for start in range(0, n_samples, SAMPLES):
            t = start + tl.arange(0, SAMPLES)
            uniform = uniforms_float64(Counter(seed, t, first_row.to(tl.int64) + row), 0)[0]
            m = _draw_listed(logits_ptr, listed, uniform * total, high, OPTIONS)
            out_ptr = drawn_ptr + (t.to(tl.int64) * batch + row) * n
            for i in range(n):
                z = tl.load(assignments_ptr + m * n + i)
                tl.store(out_ptr + i, z.to(tl.int64), mask=t < n_samples)
    else:
        for start in range(0, n_samples, SAMPLES):
            t = start + tl.arange(0, SAMPLES)
            out_ptr = drawn_ptr + (t.to(tl.int64) * batch + row) * n
            for i in range(n):
                uniform = uniforms_float64(Counter(seed, t, first_row.to(tl.int64) + row), i)[0]
                z = draw_prior(logits_ptr + i * k, uniform, k, COMPUTE)
                tl.store(out_ptr + i, z.to(tl.int64), mask=t < n_samples)
