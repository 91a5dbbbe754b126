"""The part that the operators of loopy belief propagation share."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.given_label import surely_valid
from emnesy_gpu.ops.results import LoopyResults
from emnesy_gpu.reference.given_label import given_invalid


def loopy_posterior(
    stem: str,
    logits: Tensor,
    label: Tensor,
    neighbours: Tensor,
    graph: tuple[Any, ...],
    settings: tuple[Any, ...],
    check: bool,
) -> LoopyResults:
    """Posterior given the label by loopy belief propagation with the kernels of a stem; logits [batch, *symbols, K].

    neighbours: int32 [N, D], the variables that must differ from each variable, padded with -1. Rows with label 0 are
    computed in float64. On a GPU kernels find them, so as not to wait for it.
    """
    kernels = kernels_for(stem, logits.device)
    symbols, label = logits.flatten(1, -2).contiguous(), label.contiguous()
    on_gpu = backend_for(logits.device) == "triton"
    if on_gpu:
        results = list(kernels.posterior(symbols, label, neighbours, graph, settings))
    else:
        results = list(kernels.belief_propagation(symbols, label, *graph, *settings))
    if check:
        checks.raise_for_validity(results[2], logits, label)
    if not on_gpu and not surely_valid(label):
        _replace_invalid_rows(kernels, symbols, label, neighbours, (*graph, *settings), results)
    marginals, *others = results
    return marginals.view_as(logits), *others


def _replace_invalid_rows(
    kernels: ModuleType,
    symbols: Tensor,
    label: Tensor,
    neighbours: Tensor,
    arguments: tuple[Any, ...],
    results: list[Tensor],
) -> None:
    """Write the results of rows with label 0."""
    rows = (label == 0).nonzero()[:, 0]
    doubled = symbols[rows].double()
    valid = kernels.belief_propagation(doubled, label[rows].contiguous(), *arguments)
    invalid = (*given_invalid(doubled, neighbours, *valid[:3]), *valid[3:])
    for result, part in zip(results, invalid, strict=True):
        result[rows] = part.to(result.dtype)
