"""Exact inference on finite automata, on CPU tensors: the launch functions.

Signatures and meaning are those of ``reference.automaton``. Rows are independent, and have the same bits in any batch
and with any number of threads. Rows whose label tells that they have no posterior are left out; the others are
computed in probabilities in float32 or float64 (``probabilities``), which find a path where there is enough evidence.
What they leave is screened by bits (``screen``), and computed in float64, then in logarithms (``wide``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton import addressed
from emnesy_gpu.kernels.cpu.automaton.graph import (
    FLOAT32,
    FLOAT64,
    LINEAR_COST,
    LOG_COST,
    LOGARITHMS,
    Graph,
    graph,
    row_cost,
)
from emnesy_gpu.kernels.cpu.automaton.linear import RECOMPUTE
from emnesy_gpu.kernels.cpu.automaton.probabilities import plan_of, run
from emnesy_gpu.kernels.cpu.automaton.screen import screen, screen_labels
from emnesy_gpu.kernels.cpu.common.few_rows import Call, FewRowResults, on_few_rows
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.large_logits import bounded_as
from emnesy_gpu.kernels.cpu.common.parallel import is_one_range
from emnesy_gpu.kernels.cpu.common.row_driver import (
    MOST_ON_ONE_THREAD,
    for_converted_rows,
)
from emnesy_gpu.kernels.status import POSSIBLE

Results = tuple[np.ndarray, np.ndarray, np.ndarray]


class Job(NamedTuple):
    """What is computed: (posterior - prior_share * prior) * factor; g is the graph of the arithmetic at hand."""

    tables: Sequence[Tensor]
    g: Graph
    prior_share: float
    factor: float


def posterior(logits: Tensor, rows: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [batch, n, K], log evidence [batch] and status [batch]; logits [batch, n, K], rows int32 [batch, M]."""
    return _sum_product(logits, rows, tables, prior_share=0.0, factor=1.0)


def em_gradient(logits: Tensor, rows: Tensor, tables: Sequence[Tensor], scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale [batch, n, K], log evidence [batch] and status [batch]."""
    return _sum_product(logits, rows, tables, prior_share=1.0, factor=-scale)


def few_rows(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], prior_share: float, factor: float
) -> FewRowResults | None:
    """Marginals or gradient, log evidence and possible of few float32 rows by the shortest way.

    label: codes [batch, *entries]. None where there are more rows, or where one has no posterior, little evidence or an
    unknown label.
    """
    return on_few_rows(addressed.call_of(tables), logits, label, prior_share, factor)


def map_call_of(tables: Sequence[Tensor]) -> Call:
    """How the most probable symbols of few rows are found."""
    from emnesy_gpu.kernels.cpu.automaton import map as most_probable

    return most_probable.map_call_of(tables)


def map_assignment(logits: Tensor, rows: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable symbols int64 [batch, n], the log of their prior times weights [batch], and status [batch]."""
    from emnesy_gpu.kernels.cpu.automaton.map import map_rows

    z = np.empty(logits.shape[:-1], np.int64)
    log_joint, status = _row_results(logits)
    g, label_rows = graph(tables, LOGARITHMS), rows.numpy()

    def work(rows: slice, values: np.ndarray) -> None:
        labels, *results = (array[rows] for array in (label_rows, z, log_joint, status))
        screen(values, labels, g, results[2])
        map_rows(values, labels, *results, g)

    for_converted_rows(work, logits, np.float64, 1, row_cost(g, LOG_COST))
    return torch.from_numpy(z), torch.from_numpy(log_joint), torch.from_numpy(status)


def sample(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, n] from the posterior, and status [batch]."""
    from emnesy_gpu.kernels.cpu.automaton.sampling import sample_rows

    drawn = np.empty((n_samples, *logits.shape[:-1]), np.int64)
    _, status = _row_results(logits)
    g, label_rows, key = graph(tables, LOGARITHMS), rows.numpy(), np.uint64(seed & 0xFFFFFFFFFFFFFFFF)

    def work(rows: slice, values: np.ndarray) -> None:
        labels, codes = label_rows[rows], status[rows]
        screen(values, labels, g, codes)
        sample_rows(values, labels, drawn, codes, g, key, np.int64(first_row), rows.start)

    for_converted_rows(work, logits, np.float64, 1, row_cost(g, LOG_COST) + 300.0 * n_samples * g.n)
    return torch.from_numpy(drawn), torch.from_numpy(status)


def _sum_product(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], prior_share: float, factor: float
) -> tuple[Tensor, Tensor, Tensor]:
    log_evidence, status = _row_results(logits)
    marginals = np.empty(logits.shape, log_evidence.dtype)
    label_rows = rows.numpy()
    wide = logits.dtype == torch.float64
    job = Job(tables, graph(tables, FLOAT64 if wide else FLOAT32), prior_share, factor)
    cost = row_cost(job.g, LINEAR_COST) * (4.0 if wide else 1.0)
    if is_one_range(len(logits), cost) and logits.dtype in (torch.float32, torch.float64):
        _infer_rows(logits.detach().numpy(), label_rows, (marginals, log_evidence, status), job)
        return torch.from_numpy(marginals), torch.from_numpy(log_evidence), torch.from_numpy(status)

    def work(rows: slice, values: np.ndarray) -> None:
        _infer_rows(values, label_rows[rows], (marginals[rows], log_evidence[rows], status[rows]), job)

    for_converted_rows(work, logits, np.float64 if wide else np.float32, FLOAT32_LANES, cost)
    return torch.from_numpy(marginals), torch.from_numpy(log_evidence), torch.from_numpy(status)


def _infer_rows(logits, label_rows, results: Results, job: Job) -> None:
    """Compute the rows with a posterior; the others keep their priors."""
    _, log_evidence, status = results
    if screen_labels(label_rows, job.g, status):
        if _compute_rows(logits, label_rows, results, job):
            return
    else:
        _on_rows(np.flatnonzero(status == POSSIBLE), _compute_rows, logits, label_rows, results, job)
    others = np.flatnonzero(status != POSSIBLE)
    if len(others):
        log_evidence[others] = -np.inf
        _write_priors(logits, results, others, job.factor * (1.0 - job.prior_share))


def _compute_rows(logits, label_rows, results: Results, job: Job) -> bool:
    """Probabilities in the dtype of the logits, and what they leave in wider arithmetic; whether they leave nothing."""
    kind = FLOAT32 if logits.dtype == np.float32 else FLOAT64
    if not run(logits, label_rows, results, plan_of(job.tables, kind), job.prior_share, job.factor):
        return True
    wider: Callable[..., Any] = _wide_rows
    g = graph(job.tables, LOGARITHMS)
    if kind == FLOAT32:
        wider, g = _compute_rows, graph(job.tables, FLOAT64)
    left = np.flatnonzero(results[2] == RECOMPUTE)
    size = max(1, MOST_ON_ONE_THREAD // logits[0].size)
    for start in range(0, len(left), size):
        some = left[start : start + size]
        _on_rows(some, partial(_screen_and, wider), logits, label_rows, results, job._replace(g=g))
    return False


def _screen_and(compute: Callable[..., object], logits, label_rows, results: Results, job: Job) -> None:
    """Compute the rows with a posterior; of the others the status alone is written."""
    status = results[2]
    if screen(logits, label_rows, job.g, status):
        compute(logits, label_rows, results, job)
    else:
        _on_rows(np.flatnonzero(status == POSSIBLE), compute, logits, label_rows, results, job)


def _wide_rows(logits, label_rows, results: Results, job: Job) -> None:
    from emnesy_gpu.kernels.cpu.automaton.wide import wide_rows

    wide_rows(logits, label_rows, *results, job.g, (job.prior_share, job.factor))


def _on_rows(rows, compute: Callable[..., object], logits, label_rows, results: Results, job: Job) -> None:
    """Call compute on a copy of some rows in the dtype of its graph, and write its results to their places.

    Those of impossible rows are not computed: zeros convert to any dtype, other memory may overflow it.
    """
    if len(rows) == 0:
        return
    dtype = job.g.weights.dtype
    some = bounded_as(dtype, logits[rows])
    own = np.zeros(some.shape, dtype), np.zeros(len(rows), dtype), np.empty(len(rows), np.uint8)
    compute(some, label_rows[rows], own, job)
    for result, values in zip(results, own, strict=True):
        result[rows] = values


def _write_priors(logits, results: Results, rows, factor: float) -> None:
    """Softmax times factor, for rows without a posterior."""
    from emnesy_gpu.kernels.cpu.common.priors import write_priors

    marginals = results[0]
    if factor == 0.0:
        marginals[rows] = 0.0
        return
    values = np.empty((len(rows), *logits.shape[1:]), marginals.dtype)
    write_priors(bounded_as(np.float64, logits[rows]), values, factor)
    marginals[rows] = values


def _row_results(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Uninitialised: one float of the result dtype per row, and the status of each row."""
    batch = logits.shape[0]
    return np.empty(batch, np.float64 if logits.dtype == torch.float64 else np.float32), np.empty(batch, np.uint8)
