"""Exact inference over a list of the valid assignments: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, int64, uint8

from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.ancestral import sample_invalid
from emnesy_gpu.inference.given_label import given_label, map_given_label, raise_for_status, surely_valid
from emnesy_gpu.ops.registry import map_results, register, row_results


def _kernels(logits: Tensor) -> ModuleType:
    return kernels_for("enumeration", logits.device)


def _posterior(logits: Tensor, label: Tensor, assignments: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with label 0 are computed in float64: their marginals are small differences of nearly equal numbers."""
    symbols = logits.flatten(1, -2).contiguous()
    results = _kernels(logits).posterior(symbols, label.contiguous(), assignments)
    if check:
        raise_for_status(results[2], logits, label)
    if logits.device.type != "cpu":
        results = _with_invalid_rows(symbols, label, assignments, results)
    elif not surely_valid(label):
        rows = (label == 0).nonzero()[:, 0]
        parts = [result[rows] for result in results]
        for result, part in zip(
            results, _with_invalid_rows(symbols[rows], label[rows], assignments, parts), strict=True
        ):
            result[rows] = part
    marginals, log_evidence, status = results
    return marginals.view_as(logits), log_evidence, status


def _with_invalid_rows(symbols: Tensor, label: Tensor, assignments: Tensor, results) -> list[Tensor]:
    doubled = symbols.double()
    precise = given_label(doubled, label, *_kernels(symbols).posterior(doubled, label.contiguous(), assignments))
    invalid = label == 0
    return [
        torch.where(invalid.view(-1, *[1] * (result.dim() - 1)), value.to(result.dtype), result)
        for result, value in zip(results, precise, strict=True)
    ]


def _posterior_fake(logits: Tensor, label: Tensor, assignments: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    return row_results(logits)


def _map(
    logits: Tensor, label: Tensor, assignments: Tensor, pairs: Tensor, check: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    symbols = logits.flatten(1, -2).contiguous()
    valid = _kernels(logits).map_assignment(symbols, label.contiguous(), assignments)
    if check:
        raise_for_status(valid[2], logits, label)
    z, log_joint, status = map_given_label(symbols, label, pairs, *valid)
    return z.view(logits.shape[:-1]), log_joint, status, status.logical_not()


def _map_fake(
    logits: Tensor, label: Tensor, assignments: Tensor, pairs: Tensor, check: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return map_results(logits)


def _sample(
    logits: Tensor, label: Tensor, assignments: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    symbols = logits.flatten(1, -2).contiguous()
    z, status = _kernels(logits).sample(symbols, label.contiguous(), assignments, n_samples, seed, first_row)
    if check:
        raise_for_status(status, logits, label)
    if not surely_valid(label):
        rows = torch.arange(first_row, first_row + len(logits), device=logits.device)
        invalid = sample_invalid(symbols, assignments, n_samples, seed, rows)
        z = torch.where((label == 0)[:, None], invalid, z)
    return z.view(n_samples, *logits.shape[:-1]), status


def _sample_fake(
    logits: Tensor, label: Tensor, assignments: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    z = logits.new_empty((n_samples, *logits.shape[:-1]), dtype=int64)
    return z, logits.new_empty(logits.shape[0], dtype=uint8)


register(
    "enumeration_posterior(Tensor logits, Tensor label, Tensor assignments, bool check) -> (Tensor, Tensor, Tensor)",
    _posterior,
    _posterior_fake,
)
register(
    "enumeration_map(Tensor logits, Tensor label, Tensor assignments, Tensor pairs, bool check)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _map,
    _map_fake,
)
register(
    "enumeration_sample(Tensor logits, Tensor label, Tensor assignments, SymInt n_samples, int seed, int first_row,"
    " bool check) -> (Tensor, Tensor)",
    _sample,
    _sample_fake,
)
