"""Exact inference on circuits, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.circuit``. Rows are independent, and have the same bits in any batch and
with any number of threads. Rows are computed in float32 or float64 probabilities (``linear``), and what that leaves in
float64, then with exponents of unlimited range (``wide``), which alone decides that a row is impossible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.circuit import addressed, linear
from emnesy_gpu.kernels.cpu.circuit.linear import Predictions
from emnesy_gpu.kernels.cpu.circuit.map import WORK_ROWS, map_rows
from emnesy_gpu.kernels.cpu.circuit.program import (
    LANES_COST,
    MAP_COST,
    MOST_BYTES,
    ROW_BYTES,
    Program,
    nodes,
    row_cost,
    tape,
)
from emnesy_gpu.kernels.cpu.common.few_rows import FewRowResults, on_few_rows
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.large_logits import bounded_as
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.row_driver import (
    TORCH_DTYPES,
    Combination,
    Method,
    Results,
    for_converted_rows,
    result_dtype,
    run_rows,
)
from emnesy_gpu.kernels.status import POSSIBLE

# Rough nanoseconds of a logit and of a product, for one row: in passes that walk back, and in bits.
WALK_COST = 20.0, 0.5
TRUTH_COST = 1.0, 0.02


def posterior(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [batch, n, K], log evidence [batch] and status [batch]; logits [batch, n, K], rows int32 [batch, M]."""
    return _sum_product(logits, rows, tape(tables, tape_rows), wide, Combination(prior_share=0.0, factor=1.0))


def em_gradient(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale [batch, n, K], log evidence [batch] and status [batch]."""
    return _sum_product(logits, rows, tape(tables, tape_rows), wide, Combination(prior_share=1.0, factor=-scale))


def few_rows(
    logits: Tensor,
    label: Tensor,
    tables: Sequence[Tensor],
    tape_rows: int,
    wide: bool,
    prior_share: float,
    factor: float,
) -> FewRowResults | None:
    """Marginals or gradient, log evidence and possible of few float32 rows by the shortest way.

    label: codes [batch, *entries]. None where there are more rows, or where one has no posterior, little evidence or an
    unknown label.
    """
    return on_few_rows(addressed.call_of(tables, tape_rows, wide), logits, label, prior_share, factor)


def map_few_rows(logits: Tensor, label: Tensor, tables: Sequence[Tensor]) -> FewRowResults | None:
    """The most probable symbols, the log of their prior and possible of few float32 rows; None as for ``few_rows``."""
    return on_few_rows(addressed.map_call_of(tables), logits, label)


def map_assignment(logits: Tensor, rows: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable symbols int64 [batch, n], the log of their prior [batch], and status [batch]."""
    p, batch, dtype = nodes(tables), len(logits), result_dtype(logits)
    results = np.empty(logits.shape[:-1], np.int64), np.empty(batch, dtype), np.empty(batch, np.uint8)
    label_rows = rows.numpy()

    def work(some: slice, logits: np.ndarray) -> None:
        work = linear.table(p.rows + WORK_ROWS, dtype, FLOAT32_LANES), np.empty(p.rows, np.int64)
        map_rows(logits.reshape(len(logits), -1), label_rows[some], *(array[some] for array in results), p, *work)

    for_converted_rows(work, logits, dtype, FLOAT32_LANES, _cost(p, MAP_COST))
    z, log_joint, status = map(torch.from_numpy, results)
    return z, log_joint, status


def sample(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, n] from the posterior, and status [batch]."""
    from emnesy_gpu.kernels.cpu.circuit.sampling import sample_rows
    from emnesy_gpu.kernels.cpu.circuit.wide import pairs

    p, batch = nodes(tables), len(logits)
    drawn, status = np.empty((n_samples, *logits.shape[:-1]), np.int64), np.empty(batch, np.uint8)
    label_rows, key = rows.numpy(), np.uint64(seed & 0xFFFFFFFFFFFFFFFF)

    def work(some: slice, logits: np.ndarray) -> None:
        place = some.start, np.int64(first_row) + some.start
        sample_rows(logits.reshape(len(logits), -1), label_rows[some], drawn, status[some], p, pairs(p), key, place)

    for_converted_rows(work, logits, np.float64, FLOAT32_LANES, _cost(p, WALK_COST) * (1 + n_samples))
    return torch.from_numpy(drawn), torch.from_numpy(status)


def predict(logits: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool) -> tuple[Tensor, Tensor]:
    """log p(entry = value | x) [batch, sum of given], and status [batch]."""
    p, batch, dtype = tape(tables, tape_rows), len(logits), result_dtype(logits)
    results = Predictions(np.empty((batch, p.one - p.n * p.n_values), dtype), np.empty(batch, np.uint8))
    none = np.zeros((batch, p.n_entries), np.int32)
    run_rows(_methods(p, dtype, wide, _predictions), logits, none, results, FLOAT32_LANES, _cost(p, LANES_COST))
    return torch.from_numpy(results.log_p), torch.from_numpy(results.status)


def truth(z: Tensor, tables: Sequence[Tensor], tape_rows: int, n_values: int) -> Tensor:
    """Whether z int64 [batch, n] has each value of each entry of the label, bool [batch, sum of given]."""
    from emnesy_gpu.kernels.cpu.circuit.bits import WORD, truth_rows

    p = tape(tables, tape_rows)
    symbols, result = z.numpy(), np.empty((len(z), p.one - z.shape[1] * n_values), bool)
    cost = TRUTH_COST[0] * p.n + TRUTH_COST[1] * p.operations
    for_rows(lambda first, last: truth_rows(symbols[first:last], result[first:last], p), len(z), WORD, cost)
    return torch.from_numpy(result)


def _sum_product(
    logits: Tensor, rows: Tensor, p: Program, wide: bool, combination: Combination
) -> tuple[Tensor, Tensor, Tensor]:
    batch, dtype = len(logits), result_dtype(logits)
    results = Results(np.empty(logits.shape, dtype), np.empty(batch, dtype), np.empty(batch, np.uint8))
    methods = _methods(p, dtype, wide, partial(_posteriors, combination))
    run_rows(methods, logits, rows.numpy(), results, FLOAT32_LANES, _cost(p, LANES_COST))
    if np.count_nonzero(results.status):
        _write_priors(results, logits, combination)
    marginals, log_evidence, status = map(torch.from_numpy, results)
    return marginals, log_evidence, status


def _posteriors(combination: Combination, p: Program, lanes: type[np.floating] | None) -> Callable[..., int]:
    """The kernel that computes posteriors in a float type, or with wide exponents where there is none."""
    if lanes is not None:
        return partial(linear.run, p, lanes, combination)
    from emnesy_gpu.kernels.cpu.circuit import wide

    return partial(wide.run, p, combination)


def _predictions(p: Program, lanes: type[np.floating] | None) -> Callable[..., int]:
    """The same for predictions."""
    if lanes is not None:
        return partial(linear.run_prediction, p, lanes)
    from emnesy_gpu.kernels.cpu.circuit import wide

    return partial(wide.run_prediction, p)


def _methods(
    p: Program, dtype: type[np.floating], wide: bool, kernel: Callable[[Program, Any], Callable[..., int]]
) -> list[Method]:
    """What computes logits of a dtype, and what computes the rows that are left; wide: float64 from the start."""
    first = np.float64 if wide else dtype
    methods = [Method(dtype, kernel(p, first))]
    if first is np.float32:
        methods.append(Method(np.float64, kernel(p, np.float64)))
    return [*methods, Method(np.float64, lambda *arguments: kernel(p, None)(*arguments))]


def _write_priors(results: Results, logits: Tensor, combination: Combination) -> None:
    """What rows without a posterior get in its place: the prior, or no gradient."""
    from emnesy_gpu.kernels.cpu.common.priors import write_priors

    factor = combination.factor * (1.0 - combination.prior_share)
    others = np.flatnonzero(results.status != POSSIBLE)
    values = np.zeros((len(others), *logits.shape[1:]), results.marginals.dtype)
    if factor != 0.0:
        some = logits.detach()[torch.from_numpy(others)].to(TORCH_DTYPES[result_dtype(logits)])
        write_priors(bounded_as(np.float64, some.numpy()), values, factor)
    results.marginals[others] = values


def _cost(p: Program, costs: tuple[float, float]) -> float:
    """Rough nanoseconds per row; 0 where the tables of several threads would take too much memory."""
    if p.rows * ROW_BYTES * torch.get_num_threads() > MOST_BYTES:
        return 0.0
    return row_cost(p, costs)
