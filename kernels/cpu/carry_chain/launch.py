"""Exact inference on the carry chain of addition, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.carry_chain``. Rows are independent, and have the same bits in
any batch and with any number of threads.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.carry_chain import one_by_one, probabilities
from emnesy_gpu.kernels.cpu.common.few_rows import Call, FewRowResults, new_assignment, on_few_rows
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_doubles, kept_lanes, kept_numbers
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES, FLOAT64_LANES
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.common.row_driver import (
    Combination,
    Method,
    Results,
    for_converted_rows,
    result_dtype,
    run_rows,
)
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

LOGIT_COST = 2.0
"""Rough nanoseconds of a logit in float32 lanes."""

MAP_COST = 10.0
"""The same where the most probable digits are found."""


def posterior(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior marginals [like logits], log evidence [batch] and status [batch] of every row."""
    return _sum_product(logits, label, Combination(prior_share=0.0, factor=1.0))


def em_gradient(logits: Tensor, label: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale [like logits], log evidence [batch] and status [batch]."""
    return _sum_product(logits, label, Combination(prior_share=1.0, factor=-scale))


def few_rows(logits: Tensor, label: Tensor, prior_share: float, factor: float) -> FewRowResults | None:
    """Marginals or gradient, log evidence and possible of few float32 rows by the shortest way.

    None where there are more rows, or where one needs wide exponents, has a logit beyond +-LARGEST_LOGIT or no
    posterior.
    """
    return on_few_rows(call_of(label.shape[1], *logits.shape[1:]), logits, label, prior_share, factor)


@lru_cache(maxsize=64)
def call_of(label_digits: int, n_addends: int, n_digits: int, base: int) -> Call:
    """How few rows are computed."""
    places = probabilities.layout_record(n_addends, n_digits, base)
    arguments = label_digits, LARGEST_LOGIT, places.address
    total = places.fields.total
    most_rows = most_of_one_range(LOGIT_COST * n_addends * n_digits * base)
    lanes = Call(probabilities.sum_product, most_rows, arguments, partial(kept_lanes, total), places)
    if n_addends != one_by_one.ADDENDS:
        return lanes
    # However long they are: lanes would take many times as long, and are not shared by threads either.
    one = Call(one_by_one.rows_one_by_one, one_by_one.MOST_ROWS, arguments, lambda _: kept_numbers(total), places)
    return one._replace(beyond=lanes)


def map_call_of(label_digits: int, n_addends: int, n_digits: int, base: int) -> Call:
    """How the most probable digits of few rows are found."""
    from emnesy_gpu.kernels.cpu.carry_chain.most_probable import map_few_rows

    arguments, size = (label_digits, n_addends, n_digits, base), n_addends * n_digits * base

    def work(batch: int) -> np.ndarray:
        return kept_doubles(-(-batch * size // FLOAT64_LANES), one_lane=True)

    return Call(map_few_rows, most_of_one_range(MAP_COST * size), arguments, work, None, new_assignment)


def map_assignment(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable digits int64 [batch, n_addends, n_digits], their log probability, and status."""
    from emnesy_gpu.kernels.cpu.carry_chain.most_probable import map_rows

    batch = logits.shape[0]
    results = np.empty(logits.shape[:-1], np.int64), np.empty(batch, result_dtype(logits)), np.empty(batch, np.uint8)
    labels = label.numpy()

    def work(rows: slice, logits: np.ndarray) -> None:
        map_rows(logits, labels[rows], *(array[rows] for array in results))

    for_converted_rows(work, logits, np.float64, 1, MAP_COST * logits.shape[1:].numel())
    digits, log_joint, status = map(torch.from_numpy, results)
    return digits, log_joint, status


def sample(logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, n_addends, n_digits] from the posterior, and status."""
    from emnesy_gpu.kernels.cpu.carry_chain.sampling import sample_rows

    drawn = np.empty((n_samples, *logits.shape[:-1]), np.int64)
    status = np.empty(logits.shape[0], np.uint8)
    labels, key = label.numpy(), np.uint64(seed & 0xFFFFFFFFFFFFFFFF)

    def work(rows: slice, logits: np.ndarray) -> None:
        sample_rows(logits, labels[rows], drawn, status, rows.start, key, np.int64(first_row))

    for_converted_rows(work, logits, np.float64, 1, (1000.0 + 300.0 * n_samples) * logits.shape[2])
    return torch.from_numpy(drawn), torch.from_numpy(status)


def _sum_product(logits: Tensor, label: Tensor, combination: Combination) -> tuple[Tensor, Tensor, Tensor]:
    """float32 rows in probabilities; what that leaves, and float64 rows, with wide exponents."""
    batch, dtype = logits.shape[0], result_dtype(logits)
    results = Results(np.empty(logits.shape, dtype), np.empty(batch, dtype), np.empty(batch, np.uint8))
    row_cost = (LOGIT_COST if dtype is np.float32 else 6 * LOGIT_COST) * logits.shape[1:].numel()
    methods = _methods(dtype is np.float32, combination)
    run_rows(methods, logits, label.numpy(), results, FLOAT32_LANES, row_cost)
    marginals, log_evidence, status = map(torch.from_numpy, results)
    return marginals, log_evidence, status


@lru_cache(maxsize=64)
def _methods(single: bool, combination: Combination) -> tuple[Method, ...]:
    wide = Method(np.float64, partial(_with_wide_exponents, combination))
    return (Method(np.float32, partial(probabilities.run, combination)), wide) if single else (wide,)


def _with_wide_exponents(*arguments: Any) -> int:
    """``wide_exponents.run``, imported where a row needs it: most batches do not."""
    from emnesy_gpu.kernels.cpu.carry_chain import wide_exponents

    return wide_exponents.run(*arguments)
