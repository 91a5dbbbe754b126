"""Samples of a problem whose score is a Numba function of the user, compiled into the loop that draws them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor

from emnesy_gpu.kernels.cpu.abc_sampling.blocks import BLOCK, draw_values
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.prior_draws import Stream


def histogram(
    thresholds: Tensor, label: Tensor, score: Callable, n_constraints: int, n_samples: int, seed: int, first_row: int
) -> Tensor:
    """int64 [batch, n_constraints + 1, N, K]: see ``emnesy_gpu.reference.black_box``. label [batch, entries]."""
    batch, n, steps = thresholds.shape
    result = torch.zeros(batch, n_constraints + 1, n, steps + 1, dtype=torch.int64, device="cpu")
    arrays = [tensor.numpy() for tensor in (thresholds, label, result)]
    count, stream = histogram_rows(score), Stream(np.uint64(seed), first_row, 0)

    def work(first: int, last: int) -> None:
        count(*arrays, n_samples, stream, first, last)

    for_rows(work, batch, 1, n_samples * n * 3.0)
    return result


@functools.lru_cache(maxsize=64)
def histogram_rows(score: Callable) -> Callable:
    """The kernel for one score, compiled at its first call; a score made at run time cannot be cached on disk."""

    @njit(nogil=True, error_model="numpy")
    def rows(thresholds, label, result, n_samples, stream, first, last):
        n, (seed, first_row, _) = thresholds.shape[1], stream
        words, values = np.empty((4, BLOCK), np.int32), np.empty((n, BLOCK), np.int32)
        z = np.empty(n, np.int64)
        for row in range(first, last):
            for start in range(0, n_samples, BLOCK):
                draw_values(thresholds[row], words, start, first_row + row, seed, values)
                for lane in range(min(BLOCK, n_samples - start)):
                    for i in range(n):
                        z[i] = values[i, lane]
                    satisfied = min(max(score(z, label[row]), 0), result.shape[1] - 1)
                    for i in range(n):
                        result[row, satisfied, i, values[i, lane]] += 1

    return rows
