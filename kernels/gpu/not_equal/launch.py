"""Launches loopy belief propagation with pairwise not-equal factors on a GPU; contract in the reference.

Scratch memory does not grow with the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu import given_label
from emnesy_gpu.kernels.gpu.common.belief_launches import (
    Batch,
    Parameters,
    Results,
    batch_of,
    passes,
    phase_ends,
)
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low
from emnesy_gpu.kernels.gpu.common.table_cache import made_once
from emnesy_gpu.kernels.gpu.not_equal.kernels import pairwise_kernel


class GraphTables(NamedTuple):
    """The tables that all rows share, as the kernel's Graph describes them."""

    neighbours: torch.Tensor
    reverse: torch.Tensor
    order: torch.Tensor
    position: torch.Tensor
    phase_end: torch.Tensor


def belief_propagation(
    logits: torch.Tensor,
    label: torch.Tensor,
    neighbours: torch.Tensor,
    reverse: torch.Tensor,
    order: torch.Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> Results:
    """Results of emnesy_gpu.reference.not_equal for logits [batch, N, K] and tables [N, D]."""
    batch, parameters = batch_of(logits, label), Parameters(iterations, damping, tolerance, maximise)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            graph = _graph(neighbours, reverse, order, phases)
            for compute in passes(batch):
                _launch(batch, graph, compute, parameters)
    return batch.results


def posterior(
    logits: torch.Tensor,
    label: torch.Tensor,
    neighbours: torch.Tensor,
    graph: tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]],
    settings: tuple[int, float, float, bool],
) -> Results:
    """The same given the label. graph: from neighbours on. settings: from iterations on."""
    parameters = Parameters(*settings)
    with torch.cuda.device_of(logits):
        tables = _graph(*graph)
        return given_label.posterior(
            batch_of(logits, label), neighbours, lambda batch, compute: _launch(batch, tables, compute, parameters)
        )


def _graph(neighbours: torch.Tensor, reverse: torch.Tensor, order: torch.Tensor, phases: list[int]) -> GraphTables:
    made = made_once(order, tuple(phases), lambda: (_inverse(order), phase_ends(phases, order)))
    return GraphTables(neighbours, reverse, order, *made)


def _inverse(order: torch.Tensor) -> torch.Tensor:
    """The place of every variable in the order: int32 [N]."""
    places = torch.arange(len(order), dtype=order.dtype, device=order.device)
    return torch.empty_like(order).scatter_(0, order.long(), places)


def _launch(batch: Batch, graph: GraphTables, compute: torch.dtype, parameters: Parameters) -> None:
    """All rows in float32, or those to be repeated in float64."""
    n_rows, n_variables, n_values = batch.logits.shape
    degree = graph.neighbours.shape[1]
    config = launch_config.not_equal(n_rows, n_variables, degree, n_values, compute.itemsize)
    scratch = batch.logits.new_empty(config.programs * config.scratch, dtype=compute)
    pairwise_kernel[(config.programs,)](
        batch.logits, batch.label, *graph, scratch, *batch.results, batch.redo, n_rows, n_variables, degree,
        parameters.iterations, *high_and_low(parameters.damping), parameters.tolerance,
        K=n_values, PADDED=config.padded, TILE=config.tile, MAX=parameters.maximise, **rounded_once(config.num_warps),
    )  # fmt: skip
