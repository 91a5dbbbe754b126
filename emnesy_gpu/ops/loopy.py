"""The part that the operators of loopy belief propagation share."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.given_label import given_invalid, surely_valid
from emnesy_gpu.inference.results import per_row
from emnesy_gpu.ops.results import LoopyResults


def loopy_posterior(
    stem: str,
    logits: Tensor,
    label: Tensor,
    pairs: Tensor,
    graph: tuple[Any, ...],
    settings: tuple[Any, ...],
    check: bool,
) -> LoopyResults:
    """Posterior given the label by loopy belief propagation with the kernels of a stem; logits [batch, *symbols, K].

    pairs: int64 [2, P], variables that must differ. Rows with label 0 are computed in float64.
    """
    kernels = kernels_for(stem, logits.device)
    symbols = logits.flatten(1, -2).contiguous()
    results = list(kernels.belief_propagation(symbols, label.contiguous(), *graph, *settings))
    if check:
        checks.raise_for_validity(results[2], logits, label)
    if not surely_valid(label):
        _replace_invalid_rows(kernels, symbols, label, pairs, (*graph, *settings), results)
    marginals, *others = results
    return marginals.view_as(logits), *others


def _replace_invalid_rows(
    kernels: ModuleType,
    symbols: Tensor,
    label: Tensor,
    pairs: Tensor,
    arguments: tuple[Any, ...],
    results: list[Tensor],
) -> None:
    """Write the results of rows with label 0; on a GPU all rows are computed, so as not to wait for it."""
    on_host = label.device.type == "cpu"
    rows = (label == 0).nonzero()[:, 0] if on_host else torch.arange(len(label), device=label.device)
    doubled = symbols[rows].double()
    valid = kernels.belief_propagation(doubled, label[rows].contiguous(), *arguments)
    invalid = (*given_invalid(doubled, pairs, *valid[:3]), *valid[3:])
    wrong = torch.ones_like(rows, dtype=torch.bool) if on_host else label == 0
    for result, part in zip(results, invalid, strict=True):
        result[rows] = torch.where(per_row(wrong, part), part.to(result.dtype), result[rows])
