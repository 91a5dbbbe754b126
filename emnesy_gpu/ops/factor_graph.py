"""Belief propagation on factor graphs: logits [batch, *symbols, K], label [batch] (1 or -1, all factors hold).

tables: ``emnesy_gpu.kernels.factor_graph_tables.Compiled`` as a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.results import result_dtype
from emnesy_gpu.kernels.factor_graph_tables import SERIAL
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, POSSIBLE
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import LoopyResults, MapResults, loopy_results, map_results
from emnesy_gpu.reference.factor_graph import search


@operator(loopy_results)
def factor_graph_belief_propagation(
    logits: Tensor,
    label: Tensor,
    tables: Sequence[Tensor],
    iterations: int,
    damping: float,
    schedule: str,
    tolerance: float,
    maximise: bool,
    check: bool,
) -> LoopyResults:
    """Beliefs by messages of the factors: see ``emnesy_gpu.reference.factor_graph.belief_propagation``."""
    kernels, symbols = kernels_for("factor_graph", logits.device), logits.flatten(1, -2).contiguous()
    settings = iterations, damping, schedule, tolerance, maximise
    marginals, *others = kernels.belief_propagation(symbols, label.contiguous(), list(tables), *settings)
    if check:
        _raise_for_status(others[1], logits, label)
    return marginals.view(logits.shape), *others


@operator(map_results)
def factor_graph_map(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> MapResults:
    """A most probable assignment by max-product belief propagation and decimation."""
    kernels, symbols = kernels_for("factor_graph", logits.device), logits.flatten(1, -2).contiguous()
    if backend_for(logits.device) == "triton":
        z, status = kernels.search(symbols, label.contiguous(), list(tables))
    else:
        z, status = search(symbols, label, tables, kernels.belief_propagation)
    if check:
        _raise_for_status(status, logits, label)
    log_prior = torch.log_softmax(symbols.to(result_dtype(logits)), -1)
    weight = _log_weight(kernels.belief_propagation, z, log_prior, list(tables))
    log_joint = log_prior.gather(-1, z[..., None]).flatten(1).sum(1) + weight
    log_joint = log_joint.masked_fill(status != POSSIBLE, float("-inf"))
    valid = (weight > float("-inf")) & (status == POSSIBLE)
    return z.view(logits.shape[:-1]), log_joint, status, valid


def _log_weight(launch: Any, z: Tensor, like: Tensor, tables: list[Tensor]) -> Tensor:
    """The log of the product of all factors of z [batch, n]: the evidence if nothing else has a probability."""
    certain = torch.full_like(like, float("-inf")).scatter_(-1, z[..., None], 0.0)
    results: LoopyResults = launch(certain, torch.ones_like(z[:, 0]), tables, 0, 0.0, SERIAL, 0.0, False)
    return results[1]


def _raise_for_status(status: Tensor, logits: Tensor, label: Tensor) -> None:
    highest = checks.highest(status)
    if highest == INVALID_LABEL:
        row = int((status == INVALID_LABEL).nonzero()[0])
        raise ValueError(f"label[{row}] must be 1 (all factors hold), or -1 (not given), got {int(label[row])}")
    if highest > IMPOSSIBLE:
        checks.raise_for_validity(status, logits, label)
