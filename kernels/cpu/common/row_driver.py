"""Rows of a batch go through kernels in the precision of each, and through the next one where the first gives up.

A kernel computes what it can and marks the rows that exceed the range of its numbers; the next one, with a wider
range, computes those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.large_logits import bounded_as
from emnesy_gpu.kernels.cpu.common.parallel import MOST_ON_ONE_THREAD, for_rows, is_one_range

RECOMPUTE = 255
"""The status of a row that is left to the next method; no other result of the row is known."""


TORCH_DTYPES = {np.float32: torch.float32, np.float64: torch.float64}


class Combination(NamedTuple):
    """What is written in place of marginals: (posterior - prior_share * prior) * factor."""

    prior_share: float
    factor: float


class Results(NamedTuple):
    """What exact inference says about each row, in the float type of the result."""

    marginals: np.ndarray  # like the logits
    log_evidence: np.ndarray  # [batch]
    status: np.ndarray  # uint8 [batch]


class PropagationResults(NamedTuple):
    """What belief propagation says about each row, in the float type of the result."""

    marginals: np.ndarray  # like the logits
    log_evidence: np.ndarray  # [batch]
    status: np.ndarray  # uint8 [batch]
    sweeps: np.ndarray  # int32 [batch]
    change: np.ndarray  # [batch]: of the last sweep


AnyResults = TypeVar("AnyResults", Results, PropagationResults)


class Method(NamedTuple):
    """One arithmetic: ``run(logits, label, results)`` fills in the results and returns how many rows it leaves.

    Those have status RECOMPUTE. Arrays are NumPy arrays, a row per row; logits and results have the dtype of the
    method.
    """

    dtype: type[np.floating]
    run: Callable[[np.ndarray, np.ndarray, Any], int]


def run_in_turn(methods: Sequence[Method], logits: np.ndarray, label: np.ndarray, results: AnyResults) -> None:
    """Run the first method on all rows, the second one on those that it leaves, and so on; the last leaves none."""
    method, *others = methods
    if method.run(logits, label, results) == 0:
        return
    dtype = others[0].dtype
    rows = np.flatnonzero(results.status == RECOMPUTE)
    size = max(1, MOST_ON_ONE_THREAD // logits[0].size)
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        computed = type(results)(*(_empty_like(array, len(some), dtype) for array in results))
        run_in_turn(others, bounded_as(dtype, logits[some]), label[some], computed)
        for array, values in zip(results, computed, strict=True):
            array[some] = values


def run_rows(
    methods: Sequence[Method], logits: Tensor, label: np.ndarray, results: Any, block: int, row_cost: float
) -> None:
    """``run_in_turn`` on all cores; a small batch goes to the first method as it stands.

    block, row_cost: see ``for_rows``.
    """
    dtype = methods[0].dtype
    if is_one_range(len(label), row_cost) and logits.dtype == TORCH_DTYPES[dtype]:
        run_in_turn(methods, logits.detach().numpy(), label, results)
        return

    def work(rows: slice, logits: np.ndarray) -> None:
        run_in_turn(methods, logits, label[rows], type(results)(*(array[rows] for array in results)))

    for_converted_rows(work, logits, dtype, block, row_cost)


def _empty_like(array: np.ndarray, rows: int, dtype: type[np.floating]) -> np.ndarray:
    """Uninitialised, with so many rows; floats become the given ones."""
    return np.empty((rows, *array.shape[1:]), dtype if np.issubdtype(array.dtype, np.floating) else array.dtype)


def for_converted_rows(
    work: Callable[[slice, np.ndarray], Any], logits: Tensor, dtype: type[np.floating], block: int, row_cost: float
) -> None:
    """Call work(rows, their logits in a dtype) on all cores until all rows are done.

    block, row_cost: see ``for_rows``. Logits are converted a slice at a time, so that the memory for that is bounded.
    """
    batch = logits.shape[0]
    if batch == 0:
        return
    wanted = TORCH_DTYPES[dtype]
    if logits.dtype == wanted:
        array = logits.detach().numpy()
        if is_one_range(batch, row_cost):
            work(slice(0, batch), array)
            return
        for_rows(lambda first, last: work(slice(first, last), array[first:last]), batch, block, row_cost)
        return
    logits = logits.detach()
    size = block * max(1, MOST_ON_ONE_THREAD // (logits[0].numel() * block))

    def on_range(first: int, last: int) -> None:
        for start in range(first, last, size):
            rows = slice(start, min(start + size, last))
            work(rows, logits[rows].to(wanted).numpy())

    for_rows(on_range, batch, block, row_cost)


def result_dtype(logits: Tensor) -> type[np.floating]:
    """float64 for float64 logits, float32 for all others."""
    return np.float64 if logits.dtype == torch.float64 else np.float32
