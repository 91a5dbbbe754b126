"""Automata over symbols in reading order: logits [batch, n, K], label int64 [batch, *entries].

A label has M codes, -1 where one is not given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.results import is_possible
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.ops.label_rows import label_rows, raise_for_status
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import (
    GradientResults,
    RowResults,
    assignment_results,
    gradient_of,
    gradient_results,
    marginal_results,
    sample_results,
)

CODES = AutomatonTables._fields.index("codes")


def _rows(label: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """int32 [batch, M]: which row of the emissions each entry takes, 0 where it is not given, -1 for unknown codes."""
    return label_rows(label, tables[CODES])


def _in_order(results: RowResults | None, symbols: Sequence[Tensor]) -> Any:
    if results is None or not symbols:
        return results
    by_position, *others = results
    return torch.empty_like(by_position).index_copy_(1, symbols[0], by_position), *others


@operator(
    marginal_results,
    few_rows=lambda kernels, logits, label, tables, symbols, check: _in_order(
        kernels.few_rows(logits, label, tables, 0.0, 1.0), symbols
    ),
    only_dispatched=True,
    bounds_logits=True,
)
def automaton_posterior(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], symbols: Sequence[Tensor], check: bool
) -> RowResults:
    """symbols: empty, or int64 [n], the symbol that each position reads, in whose order the results are."""
    rows, kernels = _rows(label, tables), kernels_for("automaton", logits.device)
    arguments = logits.contiguous(), rows, tables
    if backend_for(logits.device) == "triton":
        results: RowResults = kernels.posterior(*arguments, *symbols)
    else:
        results = _in_order(kernels.posterior(*arguments), symbols)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return *results[:2], is_possible(results[2])


@operator(
    gradient_results,
    few_rows=lambda kernels, logits, label, tables, symbols, scale, check: gradient_of(
        _in_order(kernels.few_rows(logits, label, tables, 1.0, -scale), symbols)
    ),
    only_dispatched=True,
    bounds_logits=True,
)
def automaton_em_gradient(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], symbols: Sequence[Tensor], scale: float, check: bool
) -> GradientResults:
    rows, kernels = _rows(label, tables), kernels_for("automaton", logits.device)
    arguments = logits.contiguous(), rows, tables, scale
    if backend_for(logits.device) == "triton":
        results: RowResults = kernels.em_gradient(*arguments, *symbols)
    else:
        results = _in_order(kernels.em_gradient(*arguments), symbols)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return results[:2]


@operator(assignment_results)
def automaton_map(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> RowResults:
    rows = _rows(label, tables)
    results: RowResults = kernels_for("automaton", logits.device).map_assignment(logits.contiguous(), rows, tables)
    if check:
        raise_for_status(results[2], logits, label, rows)
    return *results[:2], is_possible(results[2])


@operator(sample_results)
def automaton_sample(
    logits: Tensor, label: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    rows, kernels = _rows(label, tables), kernels_for("automaton", logits.device)
    z, status = kernels.sample(logits.contiguous(), rows, tables, n_samples, seed, first_row)
    if check:
        raise_for_status(status, logits, label, rows)
    return z, status
