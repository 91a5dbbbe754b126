"""Rows times a number each, on CPU tensors. A multiplication of torch wakes the threads of OpenMP, which then spin."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at

NANOSECONDS_PER_NUMBER = 0.1

NUMBERS = {torch.float32: np.float32(0), torch.float64: np.float64(0)}


def scaled_rows(values: Tensor, factors: Tensor, in_place: bool) -> Tensor:
    """values [batch, ...] times factors [batch], or one factor [] for all rows; float32 or float64 alike, contiguous.

    in_place: whether values are overwritten.
    """
    batch, scaled = len(values), values if in_place else torch.empty_like(values)
    columns = values[:1].numel()
    step = factors.stride(0) if factors.dim() else 0
    like, first_factor = NUMBERS[values.dtype], factors.data_ptr()
    source, target = values.data_ptr(), scaled.data_ptr()
    n_factors = (batch - 1) * step + 1

    def work(first: int, last: int) -> None:
        multiply_rows(source, target, first_factor, (n_factors, step), first, last, columns, like)

    for_rows(work, batch, 1, columns * NANOSECONDS_PER_NUMBER)
    return scaled


@kernel
def multiply_rows(source, target, factors, steps, first, last, columns, like):
    """Rows first .. last - 1; steps: how many numbers the factors span, and from one to the next."""
    n_factors, step = steps
    values, scaled = matrix_at(source, last, columns, like), matrix_at(target, last, columns, like)
    factor = matrix_at(factors, 1, n_factors, like)
    for row in range(first, last):
        for column in range(columns):
            scaled[row, column] = values[row, column] * factor[0, row * step]
