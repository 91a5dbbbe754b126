"""Circuits over symbols: logits [batch, n, K], label int64 [batch, *entries] of codes, -1 where one is not given.

tape_rows: the rows of the table that the tape is played over. wide: whether float32 logits are computed in float64 from
the start. Both belong to the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.results import is_possible
from emnesy_gpu.kernels.circuit_tables import CircuitTables
from emnesy_gpu.ops.label_rows import label_rows, raise_for_status
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import (
    GradientResults,
    RowResults,
    assignment_results,
    gradient_of,
    gradient_results,
    marginal_results,
    prediction_results,
    sample_results,
    truth_results,
)

CODES = CircuitTables._fields.index("codes")


def _rows(label: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """int32 [batch, M]: 0 where an entry is not given, v + 1 for its value v, -1 for unknown codes."""
    return label_rows(label, tables[CODES])


@operator(
    marginal_results,
    few_rows=lambda kernels, logits, label, tables, tape_rows, wide, check: kernels.few_rows(
        logits, label, tables, tape_rows, wide, 0.0, 1.0
    ),
    only_dispatched=True,
    bounds_logits=True,
)
def circuit_posterior(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool, check: bool
) -> RowResults:
    rows, kernels = _rows(label, tables), kernels_for("circuit", logits.device)
    results: RowResults = kernels.posterior(logits.contiguous(), rows, tables, tape_rows, wide)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return *results[:2], is_possible(results[2])


@operator(
    gradient_results,
    few_rows=lambda kernels, logits, label, tables, tape_rows, wide, scale, check: gradient_of(
        kernels.few_rows(logits, label, tables, tape_rows, wide, 1.0, -scale)
    ),
    only_dispatched=True,
    bounds_logits=True,
)
def circuit_em_gradient(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool, scale: float, check: bool
) -> GradientResults:
    rows, kernels = _rows(label, tables), kernels_for("circuit", logits.device)
    results: RowResults = kernels.em_gradient(logits.contiguous(), rows, tables, tape_rows, wide, scale)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return results[:2]


@operator(
    assignment_results,
    few_rows=lambda kernels, logits, label, tables, check: kernels.map_few_rows(logits, label, tables),
    only_dispatched=True,
)
def circuit_map(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> RowResults:
    rows, kernels = _rows(label, tables), kernels_for("circuit", logits.device)
    results: RowResults = kernels.map_assignment(logits.contiguous(), rows, tables)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return *results[:2], is_possible(results[2])


@operator(sample_results)
def circuit_sample(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    rows, kernels = _rows(label, tables), kernels_for("circuit", logits.device)
    z, status = kernels.sample(logits.contiguous(), rows, tables, n_samples, seed, first_row)
    if check:
        raise_for_status(status, logits, label, rows)
    return z, status


@operator(prediction_results, bounds_logits=True)
def circuit_predict(
    logits: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool, check: bool
) -> tuple[Tensor, Tensor]:
    kernels = kernels_for("circuit", logits.device)
    log_p, status = kernels.predict(logits.contiguous(), tables, tape_rows, wide)
    if check:
        checks.raise_for_status(status, logits, logits, "", 0)
    return log_p, status


@operator(truth_results)
def circuit_truth(z: Tensor, tables: Sequence[Tensor], tape_rows: int, n_values: int) -> Tensor:
    """Whether z int64 [batch, n] has each value of each entry of the label; the tables are those of a prediction."""
    result: Tensor = kernels_for("circuit", z.device).truth(z.contiguous(), tables, tape_rows, n_values)
    return result
