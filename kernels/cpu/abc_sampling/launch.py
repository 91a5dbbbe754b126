"""Posteriors by weighted samples and draws from the prior, on CPU tensors: the launch functions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.abc_sampling.blocks import BLOCK, draw_values
from emnesy_gpu.kernels.cpu.abc_sampling.posterior import posterior_rows
from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.prior_draws import Stream
from emnesy_gpu.kernels.cpu.common.row_driver import result_dtype
from emnesy_gpu.kernels.sampling_plan import Plan


def draw(thresholds: Tensor, n_samples: int, seed: int, first_row: int, first_sample: int) -> Tensor:
    """int64 [n_samples, batch, N]: see ``emnesy_gpu.reference.abc_sampling``."""
    batch, n, _ = thresholds.shape
    z = torch.empty(n_samples, batch, n, dtype=torch.int64, device="cpu")
    arrays, stream = (thresholds.numpy(), z.numpy()), Stream(np.uint64(seed), first_row, first_sample)

    def some_rows(first: int, last: int) -> None:
        draw_rows(*arrays, stream, first, last)

    for_rows(some_rows, batch, 1, n_samples * n * 2.0)
    return z


def posterior(
    logits: Tensor,
    label: Tensor,
    exponents: Tensor,
    tables: tuple[Tensor, Tensor],
    plan: Plan,
    seed: int,
    first_row: int,
) -> tuple[Tensor, ...]:
    """Marginals, log evidence, status, effective sample size, sharpness, samples with the label: see the reference."""
    batch, n, _ = logits.shape
    dtype = result_dtype(logits)
    marginals, status, matches = np.empty(logits.shape, dtype), np.empty(batch, np.uint8), np.empty(batch, np.int64)
    floats = np.empty(batch, dtype), np.empty(batch, dtype), np.empty(batch, dtype)
    constraints, incident = (table.numpy() for table in tables)
    wide = torch.float64 if dtype is np.float64 else torch.float32
    inputs = logits.detach().to(wide).numpy(), label.numpy(), exponents.numpy(), constraints
    numbers = plan, incident.shape[1] > 0, Stream(np.uint64(seed), first_row, 0)

    def work(first: int, last: int) -> None:
        posterior_rows(*inputs, *numbers, marginals, floats, status, matches, first, last)

    for_rows(work, batch, 1, plan.n_samples * n * 2.0)
    log_evidence, size, sharpness = map(torch.from_numpy, floats)
    return (
        torch.from_numpy(marginals),
        log_evidence,
        torch.from_numpy(status),
        size,
        sharpness,
        torch.from_numpy(matches),
    )


@kernel
def draw_rows(thresholds, z, stream, first, last):
    """Rows first .. last - 1 of z [n_samples, batch, N]."""
    n_samples, _, n = z.shape
    seed, first_row, first_sample = stream
    words, values = np.empty((4, BLOCK), np.int32), np.empty((n, BLOCK), np.int32)
    for row in range(first, last):
        for start in range(0, n_samples, BLOCK):
            draw_values(thresholds[row], words, first_sample + start, first_row + row, seed, values)
            for lane in range(min(BLOCK, n_samples - start)):
                for i in range(n):
                    z[start + lane, row, i] = values[i, lane]
