"""Exact inference over a list of the valid assignments: logits [batch, *symbols, K], label [batch] (1 valid, 0 not).

assignments: uint8 [M, N], all valid ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.ancestral import sample_invalid
from emnesy_gpu.inference.given_label import given_label, map_given_label, surely_valid
from emnesy_gpu.inference.results import per_row
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import MapResults, RowResults, map_results, row_results, sample_results


def _kernels(logits: Tensor) -> ModuleType:
    return kernels_for("enumeration", logits.device)


@operator(row_results)
def enumeration_posterior(logits: Tensor, label: Tensor, assignments: Tensor, check: bool) -> RowResults:
    """Exact marginals, log evidence and status.

    Rows with label 0 are computed in float64, because their marginals are differences of nearly equal numbers.
    """
    symbols = logits.flatten(1, -2).contiguous()
    results = _kernels(logits).posterior(symbols, label.contiguous(), assignments)
    if check:
        checks.raise_for_validity(results[2], logits, label)
    if logits.device.type != "cpu":
        results = _with_invalid_rows(symbols, label, assignments, results)
    elif not surely_valid(label):
        rows = (label == 0).nonzero()[:, 0]
        parts = [result[rows] for result in results]
        invalid = _with_invalid_rows(symbols[rows], label[rows], assignments, parts)
        for result, part in zip(results, invalid, strict=True):
            result[rows] = part
    marginals, log_evidence, status = results
    return marginals.view_as(logits), log_evidence, status


def _with_invalid_rows(
    symbols: Tensor, label: Tensor, assignments: Tensor, results: Sequence[Tensor]
) -> Sequence[Tensor]:
    """The results, with those of rows with label 0 recomputed in float64."""
    doubled = symbols.double()
    precise = given_label(doubled, label, *_kernels(symbols).posterior(doubled, label.contiguous(), assignments))
    return [
        torch.where(per_row(label == 0, result), value.to(result.dtype), result)
        for result, value in zip(results, precise, strict=True)
    ]


@operator(map_results)
def enumeration_map(logits: Tensor, label: Tensor, assignments: Tensor, pairs: Tensor, check: bool) -> MapResults:
    """The most probable assignment, its log joint, status, and whether it has the label."""
    symbols = logits.flatten(1, -2).contiguous()
    valid = _kernels(logits).map_assignment(symbols, label.contiguous(), assignments)
    if check:
        checks.raise_for_validity(valid[2], logits, label)
    z, log_joint, status = map_given_label(symbols, label, pairs, *valid)
    return z.view(logits.shape[:-1]), log_joint, status, status == POSSIBLE


@operator(sample_results)
def enumeration_sample(
    logits: Tensor, label: Tensor, assignments: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    """Independent exact samples, and status."""
    symbols = logits.flatten(1, -2).contiguous()
    z, status = _kernels(logits).sample(symbols, label.contiguous(), assignments, n_samples, seed, first_row)
    if check:
        checks.raise_for_validity(status, logits, label)
    if not surely_valid(label):
        rows = torch.arange(first_row, first_row + len(logits), device=logits.device)
        invalid = sample_invalid(symbols, assignments, n_samples, seed, rows)
        z = torch.where((label == 0)[:, None], invalid, z)
    return z.view(n_samples, *logits.shape[:-1]), status
