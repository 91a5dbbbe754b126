"""Exact inference over a list of the valid assignments: logits [batch, *symbols, K], label [batch] (1 valid, 0 not).

assignments: uint8 [M, N], all valid ones. circuit, tape_rows: of the question whether an assignment is valid, see
``kernels.circuit_tables``; its label has the values 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.given_label import map_given_label, surely_valid
from emnesy_gpu.inference.results import is_possible
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import (
    GradientResults,
    MapResults,
    RowResults,
    gradient_of,
    gradient_results,
    map_results,
    marginal_results,
    sample_results,
)


def _kernels(logits: Tensor) -> ModuleType:
    return kernels_for("enumeration", logits.device)


@operator(
    marginal_results,
    few_rows=lambda kernels, logits, label, assignments, circuit, tape_rows, check: kernels.few_rows(
        logits, label, assignments, 0.0, 1.0
    ),
    only_dispatched=True,
)
def enumeration_posterior(
    logits: Tensor, label: Tensor, assignments: Tensor, circuit: Sequence[Tensor], tape_rows: int, check: bool
) -> RowResults:
    """Exact marginals, log evidence and possible; rows with label 0 by the circuit.

    Computed as differences to label 1 they would be lost where a valid assignment is nearly certain.
    """
    symbols = logits.flatten(1, -2).contiguous()
    results = _kernels(logits).posterior(symbols, label.contiguous(), assignments)
    results = _given_label(results, logits, label, Circuit(list(circuit), tape_rows), None, check)
    return *results[:2], is_possible(results[2])


@operator(
    gradient_results,
    few_rows=lambda kernels, logits, label, assignments, circuit, tape_rows, scale, check: gradient_of(
        kernels.few_rows(logits, label, assignments, 1.0, -scale)
    ),
    only_dispatched=True,
)
def enumeration_em_gradient(
    logits: Tensor,
    label: Tensor,
    assignments: Tensor,
    circuit: Sequence[Tensor],
    tape_rows: int,
    scale: float,
    check: bool,
) -> GradientResults:
    """The EM gradient (softmax(logits) - marginals) * scale and log evidence; rows with label 0 as above."""
    symbols = logits.flatten(1, -2).contiguous()
    results = _kernels(logits).em_gradient(symbols, label.contiguous(), assignments, scale)
    return _given_label(results, logits, label, Circuit(list(circuit), tape_rows), scale, check)[:2]


class Circuit(NamedTuple):
    """Whether an assignment is valid, as kernels of circuits take it."""

    tables: list[Tensor]
    tape_rows: int


def _given_label(
    results: RowResults, logits: Tensor, label: Tensor, circuit: Circuit, scale: float | None, check: bool
) -> RowResults:
    """Results of the shape of the logits, in which rows with label 0 have theirs. scale: of the gradient, or None."""
    if check:
        checks.raise_for_validity(results[2], logits, label)
    if not surely_valid(label):
        _replace_invalid_rows(logits.flatten(1, -2).contiguous(), label == 0, circuit, scale, results)
    out, log_evidence, status = results
    return out.view_as(logits), log_evidence, status


def _label_0(symbols: Tensor) -> Tensor:
    """Label 0 for each row, as kernels of circuits take it."""
    return torch.ones(len(symbols), 1, dtype=torch.int32, device=symbols.device)


def _replace_invalid_rows(
    symbols: Tensor, invalid: Tensor, circuit: Circuit, scale: float | None, results: RowResults
) -> None:
    """Write the results of the rows with label 0; a GPU finds them itself."""
    kernels = kernels_for("circuit", symbols.device)
    if backend_for(symbols.device) == "triton":
        kernels.replace_rows(symbols, _label_0(symbols), *circuit, results, invalid.view(torch.uint8), scale)
        return
    rows = invalid.nonzero()[:, 0]
    arguments = symbols[rows], _label_0(symbols[rows]), *circuit, False
    parts = kernels.posterior(*arguments) if scale is None else kernels.em_gradient(*arguments, scale)
    for result, part in zip(results, parts, strict=True):
        result[rows] = part


@operator(map_results)
def enumeration_map(logits: Tensor, label: Tensor, assignments: Tensor, pairs: Tensor, check: bool) -> MapResults:
    """The most probable assignment, its log joint, status, and whether it has the label."""
    symbols = logits.flatten(1, -2).contiguous()
    z, log_joint, status = _kernels(logits).map_assignment(symbols, label.contiguous(), assignments)
    if check:
        checks.raise_for_validity(status, logits, label)
    if surely_valid(label):
        return z.view(logits.shape[:-1]), log_joint, status, status == POSSIBLE
    z, log_joint, status, valid = map_given_label(symbols, label, pairs, z, status, log_joint)
    return z.view(logits.shape[:-1]), log_joint, status, valid


@operator(sample_results)
def enumeration_sample(
    logits: Tensor,
    label: Tensor,
    assignments: Tensor,
    circuit: Sequence[Tensor],
    n_samples: int,
    seed: int,
    first_row: int,
    check: bool,
) -> tuple[Tensor, Tensor]:
    """Independent exact samples, and status; rows with label 0 by the circuit."""
    symbols = logits.flatten(1, -2).contiguous()
    arguments, where = (symbols, label.contiguous(), assignments), (n_samples, seed, first_row)
    others = None
    if not surely_valid(label):
        others = kernels_for("circuit", logits.device).sample(symbols, _label_0(symbols), list(circuit), *where)
    if others is not None and backend_for(logits.device) == "triton":
        z, status = _kernels(logits).sample(*arguments, *where, others)
    else:
        z, status = _kernels(logits).sample(*arguments, *where)
        if others is not None:
            z = torch.where((label == 0)[:, None], others[0], z)
            status = torch.where(label == 0, others[1], status)
    if check:
        checks.raise_for_validity(status, logits, label)
    return z.view(n_samples, *logits.shape[:-1]), status
