"""Loopy belief propagation with all-different factors, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.all_different``. Rows are independent, and have the same bits in any
batch and with any number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows

# The sums over subsets of values take 2^K steps and 2^K * 64 bytes.
LARGEST_N_VALUES = 16
# Rows whose logits have to be converted are taken about this many logits at a time.
CONVERTED_LOGITS = 1 << 18


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    groups: Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch]."""
    from emnesy_gpu.kernels.cpu.all_different.graph import Options, build_graph

    batch, n, k = logits.shape
    if k > LARGEST_N_VALUES:
        raise ValueError(
            f'all-different factors take at most {LARGEST_N_VALUES} values, got {k}: use factors="pairwise"'
        )
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    marginals, log_evidence = torch.empty(logits.shape, dtype=dtype), torch.empty(batch, dtype=dtype)
    status, sweeps = torch.empty(batch, dtype=torch.uint8), torch.empty(batch, dtype=torch.int32)
    change = torch.empty(batch, dtype=dtype)
    graph = build_graph(groups.numpy(), phases, n)
    options = Options(iterations, damping, tolerance, maximise)
    flat_logits, flat_marginals = logits.detach().view(batch, n * k), marginals.view(batch, n * k)
    arrays = [tensor.numpy() for tensor in (label, flat_marginals, log_evidence, status, sweeps, change)]
    size = max(1, batch if logits.dtype == dtype else CONVERTED_LOGITS // (n * k))

    def work(first: int, last: int) -> None:
        for start in range(first, last, size):
            some = slice(start, min(start + size, last))
            _some_rows(flat_logits[some].to(dtype).numpy(), [array[some] for array in arrays], graph, k, options)

    for_rows(work, batch, FLOAT32_LANES, 0.15 * (iterations + 1) * len(groups) * k * 2**k)
    return marginals, log_evidence, status, sweeps, change


def _some_rows(logits: np.ndarray, others: list[np.ndarray], graph, n_values: int, options) -> None:
    """float32 rows in float32; what that leaves, and float64 rows, in float64; the rest with wide exponents."""
    from emnesy_gpu.kernels.cpu.all_different import probabilities, wide_exponents
    from emnesy_gpu.kernels.cpu.all_different.graph import RECOMPUTE, Rows

    label, *results = others
    # Rows that may stop early stay together.
    rows = Rows(np.argsort(label != 0, kind="stable"), logits, *others)
    probabilities.run(rows, graph, n_values, options)
    left = np.flatnonzero(rows.status == RECOMPUTE)
    if logits.dtype == np.float64:
        if len(left) > 0:
            wide_exponents.run(rows._replace(chosen=left), graph, n_values, options)
        return
    size = max(1, CONVERTED_LOGITS // logits.shape[1])
    for start in range(0, len(left), size):
        some = left[start : start + size]
        doubles = [array[some].astype(np.float64 if array.dtype == np.float32 else array.dtype) for array in results]
        _some_rows(logits[some].astype(np.float64), [label[some], *doubles], graph, n_values, options)
        for array, double in zip(results, doubles, strict=True):
            array[some] = double
