"""Loopy belief propagation with pairwise not-equal factors, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.not_equal``. Rows are independent, and have the same bits in any batch
and with any number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows

# Logits of half precision are converted about this many at a time.
CONVERTED_LOGITS = 1 << 18


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    neighbours: Tensor,
    reverse: Tensor,
    order: Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch]."""
    from emnesy_gpu.kernels.cpu.not_equal.graph import build_graph

    batch, n, k = logits.shape
    logits = logits.detach()
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    results = (
        torch.empty(logits.shape, dtype=dtype),
        torch.empty(batch, dtype=dtype),
        torch.empty(batch, dtype=torch.uint8),
        torch.empty(batch, dtype=torch.int32),
        torch.empty(batch, dtype=dtype),
    )
    graph = build_graph(neighbours.numpy(), reverse.numpy(), order.numpy(), phases)
    options = iterations, damping, tolerance, maximise
    arrays = [tensor.numpy() for tensor in (label, *results)]
    size = FLOAT32_LANES * max(1, CONVERTED_LOGITS // (n * k * FLOAT32_LANES)) if logits.dtype != dtype else batch

    def work(first: int, last: int) -> None:
        for start in range(first, last, size):
            rows = slice(start, min(start + size, last))
            _some_rows(logits[rows].to(dtype).numpy(), [array[rows] for array in arrays], graph, options)

    if batch > 0:
        for_rows(work, batch, FLOAT32_LANES, 0.5 * (iterations + 1) * neighbours.numel() * k)
    return results


def _some_rows(logits: np.ndarray, arrays: list[np.ndarray], graph, options) -> None:
    """float32 rows in float32; what that leaves, and float64 rows, in float64; the rest in log space."""
    from emnesy_gpu.kernels.cpu.not_equal import log_space, probabilities
    from emnesy_gpu.kernels.cpu.not_equal.graph import RECOMPUTE

    label, *results = arrays
    status = results[2]
    status.fill(RECOMPUTE)
    methods = [probabilities.run_float32, probabilities.run_float64, log_space.run]
    for method in methods[logits.dtype == np.float64 :]:
        rows = np.flatnonzero(status == RECOMPUTE)
        if len(rows) == len(logits):
            method(logits, label, results, graph, *options)
        elif len(rows) > 0:
            some = [array[rows] for array in results]
            method(logits[rows], label[rows], some, graph, *options)
            for array, values in zip(results, some, strict=True):
                array[rows] = values
