"""Automata over symbols in reading order: logits [batch, n, K], label int64 [batch, M] of codes, -1 where not given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from emnesy_gpu.backends import kernels_for, load_kernels
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.ops.label_rows import label_rows, raise_for_status
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import RowResults, assignment_results, row_results, sample_results

CODES = AutomatonTables._fields.index("codes")


def _rows(label: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """int32 [batch, M]: which row of the emissions each entry takes, 0 where it is not given, -1 for unknown codes."""
    return label_rows(label, tables[CODES])


def _few_rows(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], prior_share: float, factor: float
) -> RowResults | None:
    kernels, logits = load_kernels("cpu", "automaton"), logits.contiguous()
    found: RowResults | None = kernels.few_rows(logits, label.contiguous(), tables, prior_share, factor)
    return found


@operator(row_results, few_rows=lambda logits, label, tables, check: _few_rows(logits, label, tables, 0.0, 1.0))
def automaton_posterior(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> RowResults:
    rows = _rows(label, tables)
    results: RowResults = kernels_for("automaton", logits.device).posterior(logits.contiguous(), rows, tables)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return results


@operator(
    row_results, few_rows=lambda logits, label, tables, scale, check: _few_rows(logits, label, tables, 1.0, -scale)
)
def automaton_em_gradient(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], scale: float, check: bool
) -> RowResults:
    rows, kernels = _rows(label, tables), kernels_for("automaton", logits.device)
    results: RowResults = kernels.em_gradient(logits.contiguous(), rows, tables, scale)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return results


@operator(assignment_results)
def automaton_map(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> RowResults:
    rows = _rows(label, tables)
    results: RowResults = kernels_for("automaton", logits.device).map_assignment(logits.contiguous(), rows, tables)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return results


@operator(sample_results)
def automaton_sample(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    rows, kernels = _rows(label, tables), kernels_for("automaton", logits.device)
    z, status = kernels.sample(logits.contiguous(), rows, tables, n_samples, seed, first_row)
    if check:
        raise_for_status(status, logits, label, rows)
    return z, status
