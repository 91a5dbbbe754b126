"""Launches loopy belief propagation with all-different factors on a GPU; contract in emnesy_gpu.reference.

The float32 launch is CUDA C where CuPy is installed, else Triton; the float64 launch is Triton. Scratch memory does not
grow with the batch.
"""

from __future__ import annotations

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu import given_label
from emnesy_gpu.kernels.gpu.all_different import cuda
from emnesy_gpu.kernels.gpu.all_different.decimation import decimation_kernel
from emnesy_gpu.kernels.gpu.all_different.graph import GraphTables, graph_of
from emnesy_gpu.kernels.gpu.all_different.kernels import belief_propagation_kernel
from emnesy_gpu.kernels.gpu.all_different.subsets import subsets
from emnesy_gpu.kernels.gpu.common.belief_launches import (
    Batch,
    Parameters,
    Results,
    batch_of,
    passes,
)
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low

MAX_VALUES = 12

SWEEPS = 10
"""Sweeps of a round of decimation, at most, as in emnesy_gpu.reference.decimation."""


def belief_propagation(
    logits: torch.Tensor,
    label: torch.Tensor,
    groups: torch.Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> Results:
    """Results of emnesy_gpu.reference.all_different for logits [batch, N, K] and groups int32 [G, W]."""
    batch, parameters = batch_of(logits, label), Parameters(iterations, damping, tolerance, maximise)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            graph = _graph(logits, groups, phases)
            for compute in passes(batch):
                _launch(batch, graph, compute, parameters)
    return batch.results


def posterior(
    logits: torch.Tensor,
    label: torch.Tensor,
    neighbours: torch.Tensor,
    graph: tuple[torch.Tensor, list[int]],
    settings: tuple[int, float, float, bool],
) -> Results:
    """The same given the label. graph: groups and phases. settings: from iterations on."""
    parameters = Parameters(*settings)
    with torch.cuda.device_of(logits):
        tables = _graph(logits, *graph)
        return given_label.posterior(
            batch_of(logits, label), neighbours, lambda batch, compute: _launch(batch, tables, compute, parameters)
        )


def decimate(
    logits: torch.Tensor, label: torch.Tensor, groups: torch.Tensor, phases: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """An assignment int64 [batch, N] and the status uint8 [batch]: see emnesy_gpu.reference.decimation."""
    (batch, n, k), (n_groups, width) = logits.shape, groups.shape
    z, codes = logits.new_empty(batch, n, dtype=torch.int64), logits.new_empty(batch, dtype=torch.uint8)
    if batch == 0:
        return z, codes
    with torch.cuda.device_of(logits):
        graph = _graph(logits, groups, phases)
        bytes_of_both = torch.float32.itemsize + torch.float64.itemsize
        config = launch_config.all_different(batch, n, n_groups, width, k, bytes_of_both)
        narrow, wide = (
            logits.new_empty(config.programs * config.scratch, dtype=dtype) for dtype in (torch.float32, torch.float64)
        )
        # Rows of the batch of a launch of belief propagation that a program has to itself.
        own = batch_of(logits.new_empty(config.programs, n, k), label)
        choice = logits.new_empty(config.programs, n, dtype=torch.int32)
        top = torch.empty_like(choice, dtype=torch.float64)
        tile, lanes = launch_config.symbol_tile(k)
        decimation_kernel[(config.programs,)](
            logits, label, *graph.tables, subsets(k, logits.device), narrow, wide, own.logits, *own.results,
            torch.empty_like(own.results[2]), choice, top, z, codes, batch, n, n_groups, width, SWEEPS,
            ROWS=config.rows, K=k, LANES=config.lanes, TILE=tile // 4, WIDTH=lanes, **rounded_once(config.num_warps),
        )  # fmt: skip
    return z, codes


def _graph(logits: torch.Tensor, groups: torch.Tensor, phases: list[int]) -> GraphTables:
    n_variables, n_values = logits.shape[1:]
    if n_values > MAX_VALUES:
        message = f"all-different factors on a GPU take at most {MAX_VALUES} values, got {n_values}"
        raise ValueError(message + ': use factors="pairwise"')
    return graph_of(groups, phases, n_variables)


def _launch(batch: Batch, graph: GraphTables, compute: torch.dtype, parameters: Parameters) -> None:
    """All rows in float32, or those to be repeated in float64."""
    if compute == torch.float32 and cuda.fits(batch.logits, graph):
        cuda.launch(batch, graph, parameters)
    else:
        launch_triton(batch, graph, compute, parameters)


def launch_triton(batch: Batch, graph: GraphTables, compute: torch.dtype, parameters: Parameters) -> None:
    """All rows in float32, or those to be repeated in float64."""
    n_rows, n_variables, n_values = batch.logits.shape
    n_groups, width = graph.groups.shape
    config = launch_config.all_different(n_rows, n_variables, n_groups, width, n_values, compute.itemsize)
    scratch = batch.logits.new_empty(config.programs * config.scratch, dtype=compute)
    belief_propagation_kernel[(config.programs,)](
        batch.logits, batch.label, *graph.tables, subsets(n_values, batch.logits.device), scratch, *batch.results,
        batch.redo, n_rows, n_variables, n_groups, width, parameters.iterations, *high_and_low(parameters.damping),
        parameters.tolerance, ROWS=config.rows, K=n_values, LANES=config.lanes, MAX=parameters.maximise,
        **rounded_once(config.num_warps),
    )  # fmt: skip
