"""Exact inference over a list of the valid assignments: logits [batch, *symbols, K], label [batch] (1 valid, 0 not).

assignments: uint8 [M, N], all valid ones. circuit, tape_rows: of the question whether an assignment is valid, see
``kernels.circuit_tables``; its label has the values 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.given_label import map_given_label, surely_valid
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import MapResults, RowResults, map_results, row_results, sample_results


def _kernels(logits: Tensor) -> ModuleType:
    return kernels_for("enumeration", logits.device)


@operator(row_results)
def enumeration_posterior(
    logits: Tensor, label: Tensor, assignments: Tensor, circuit: Sequence[Tensor], tape_rows: int, check: bool
) -> RowResults:
    """Exact marginals, log evidence and status; rows with label 0 by the circuit.

    Computed as differences to label 1 they would be lost where a valid assignment is nearly certain.
    """
    symbols = logits.flatten(1, -2).contiguous()
    results = _kernels(logits).posterior(symbols, label.contiguous(), assignments)
    if check:
        checks.raise_for_validity(results[2], logits, label)
    if not surely_valid(label):
        _replace_invalid_rows(symbols, label == 0, circuit, tape_rows, results)
    marginals, log_evidence, status = results
    return marginals.view_as(logits), log_evidence, status


def _label_0(symbols: Tensor) -> Tensor:
    """Label 0 for each row, as kernels of circuits take it."""
    return torch.ones(len(symbols), 1, dtype=torch.int32, device=symbols.device)


def _replace_invalid_rows(
    symbols: Tensor, invalid: Tensor, circuit: Sequence[Tensor], tape_rows: int, results: RowResults
) -> None:
    """Write the results of the rows with label 0; a GPU finds them itself."""
    kernels = kernels_for("circuit", symbols.device)
    if backend_for(symbols.device) == "triton":
        wanted = invalid.view(torch.uint8)
        kernels.replace_rows(symbols, _label_0(symbols), list(circuit), tape_rows, results, wanted)
        return
    rows = invalid.nonzero()[:, 0]
    parts = kernels.posterior(symbols[rows], _label_0(symbols[rows]), list(circuit), tape_rows, False)
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
