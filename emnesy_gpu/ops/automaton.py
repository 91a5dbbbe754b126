"""Automata over symbols in reading order: logits [batch, n, K], label int64 [batch, M] of codes, -1 where not given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import RowResults, assignment_results, row_results, sample_results


def _rows(label: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """int32 [batch, M]: which row of the emissions each entry takes, 0 where it is not given, -1 for unknown codes."""
    codes = AutomatonTables(*tables).codes
    return codes.gather(1, (label + 2).clamp_(0, codes.shape[1] - 1).T).T.contiguous()


def _raise_for_status(status: Tensor, logits: Tensor, label: Tensor, rows: Tensor) -> None:
    highest = int(status.max()) if status.numel() else POSSIBLE
    if highest < INVALID_LOGITS:
        return
    if highest == INVALID_LABEL:
        row, entry = (rows < 0).nonzero()[0].tolist()
        raise ValueError(
            f"label[{row}, {entry}] must be the code of a label, see encode() and labels, or -1 for none, got "
            f"{int(label[row, entry])}"
        )
    checks.raise_for_status(status, logits, label, "the code of a label", 0)


def check_values(logits: Tensor, label: Tensor, tables: Sequence[Tensor]) -> None:
    """Raise for logits that are no prior and for codes that no label has (synchronises a GPU)."""
    rows = _rows(label, tables)
    status = checks.row_status(logits, label, None)
    _raise_for_status(torch.where((rows < 0).any(1), INVALID_LABEL, status), logits, label, rows)


@operator(row_results)
def automaton_posterior(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> RowResults:
    rows = _rows(label, tables)
    results: RowResults = kernels_for("automaton", logits.device).posterior(logits.contiguous(), rows, list(tables))
    if check:
        _raise_for_status(results[2], logits, label, rows)
    return results


@operator(row_results)
def automaton_em_gradient(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], scale: float, check: bool
) -> RowResults:
    rows, kernels = _rows(label, tables), kernels_for("automaton", logits.device)
    results: RowResults = kernels.em_gradient(logits.contiguous(), rows, list(tables), scale)
    if check:
        _raise_for_status(results[2], logits, label, rows)
    return results


@operator(assignment_results)
def automaton_map(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> RowResults:
    rows = _rows(label, tables)
    results: RowResults = kernels_for("automaton", logits.device).map_assignment(
        logits.contiguous(), rows, list(tables)
    )
    if check:
        _raise_for_status(results[2], logits, label, rows)
    return results


@operator(sample_results)
def automaton_sample(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    rows, kernels = _rows(label, tables), kernels_for("automaton", logits.device)
    z, status = kernels.sample(logits.contiguous(), rows, list(tables), n_samples, seed, first_row)
    if check:
        _raise_for_status(status, logits, label, rows)
    return z, status
