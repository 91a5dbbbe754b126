"""The part that the operators of loopy belief propagation share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.given_label import given_label
from emnesy_gpu.ops.results import LoopyResults


def loopy_posterior(
    stem: str, logits: Tensor, label: Tensor, graph: tuple[Any, ...], settings: tuple[Any, ...], check: bool
) -> LoopyResults:
    """Posterior given the label by loopy belief propagation with the kernels of a stem; logits [batch, *symbols, K]."""
    kernels = kernels_for(stem, logits.device)
    symbols = logits.flatten(1, -2).contiguous()
    results = kernels.belief_propagation(symbols, label.contiguous(), *graph, *settings)
    valid, log_valid, status, sweeps, change = results
    if check:
        checks.raise_for_validity(status, logits, label)
    marginals, log_evidence, status = given_label(symbols, label, valid, log_valid, status)
    return marginals.view_as(logits), log_evidence, status, sweeps, change
