"""Launches the CUDA C kernel of belief propagation with all-different factors: float32, all rows."""

from __future__ import annotations

from typing import Any

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu.all_different.graph import GraphTables
from emnesy_gpu.kernels.gpu.all_different.subsets import places
from emnesy_gpu.kernels.gpu.common.belief_launches import Batch, Parameters


def fits(logits: torch.Tensor, graph: GraphTables) -> bool:
    """Whether the kernel can run: CuPy, an Nvidia GPU, and room for a row [N, K] of the batch in shared memory."""
    if not (logits.is_cuda and loader.available()):
        return False
    # PyTorch's type stub lacks shared_memory_per_block_optin.
    properties: Any = torch.cuda.get_device_properties(logits.device)
    config = _config(logits, graph)
    return properties.major >= 8 and config.shared_bytes <= properties.shared_memory_per_block_optin


def launch(batch: Batch, graph: GraphTables, parameters: Parameters) -> None:
    """One block for every row; see all_different.cu."""
    n_rows, n_variables, n_values = batch.logits.shape
    n_groups, width = graph.groups.shape
    config = _config(batch.logits, graph)
    logits = batch.logits.to(torch.float32)
    loader.launch(
        "all_different.cu",
        "belief_propagation",
        (("VALUES", n_values), ("MAXIMISE", int(parameters.maximise))),
        n_rows,
        32 * config.warps,
        config.shared_bytes,
        (logits, batch.label, *graph.tables, places(n_values, logits.device), *batch.results, batch.redo, n_variables,
         n_groups, width, parameters.iterations, float(parameters.damping), float(parameters.tolerance)),
    )  # fmt: skip


def _config(logits: torch.Tensor, graph: GraphTables) -> launch_config.AllDifferentBlock:
    _, n_variables, n_values = logits.shape
    n_groups, width = graph.groups.shape
    return launch_config.all_different_block(n_variables, n_groups, width, n_values, graph.largest_phase)
