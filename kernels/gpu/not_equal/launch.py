"""Launch function of loopy belief propagation with pairwise not-equal factors on a GPU; contract in the reference.

The first launch computes with float32 probabilities and marks the rows whose digits drown; the second repeats these, if
any, with float64 logarithms. Scratch memory does not grow with the batch.
"""

from __future__ import annotations

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low
from emnesy_gpu.kernels.gpu.not_equal.kernels import pairwise_kernel


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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    batch = len(logits)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    marginals = torch.empty_like(logits, dtype=dtype)
    status = logits.new_empty(batch, dtype=torch.uint8)
    sweeps = logits.new_empty(batch, dtype=torch.int32)
    log_evidence, change = logits.new_empty(batch, dtype=dtype), logits.new_empty(batch, dtype=dtype)
    results = (marginals, log_evidence, status, sweeps, change)
    if batch > 0:
        parameters = (iterations, *high_and_low(damping), tolerance)
        with torch.cuda.device_of(logits):
            tables = (neighbours, reverse, *_order_tables(order, phases))
            redo = torch.ones_like(status)
            for compute in (torch.float32, torch.float64) if dtype == torch.float32 else (torch.float64,):
                _launch(logits, label, tables, results, redo, compute, parameters, maximise)
    return results


def _order_tables(order: torch.Tensor, phases: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The order, its inverse, and where the phase of every position ends."""
    position = torch.empty_like(order).scatter_(
        0, order.long(), torch.arange(len(order), dtype=order.dtype, device=order.device)
    )
    phase_end = torch.empty_like(order)
    start = 0
    for size in phases:
        phase_end[start : start + size] = start + size
        start += size
    return order, position, phase_end


def _launch(
    logits: torch.Tensor,
    label: torch.Tensor,
    tables: tuple[torch.Tensor, ...],
    results: tuple[torch.Tensor, ...],
    redo: torch.Tensor,
    compute: torch.dtype,
    parameters: tuple[int, float, float, float],
    maximise: bool,
) -> None:
    """All rows in float32, or those to be repeated in float64."""
    batch, n_variables, n_values = logits.shape
    degree = tables[0].shape[1]
    config = launch_config.not_equal(batch, n_variables, degree, n_values, compute.itemsize)
    scratch = logits.new_empty(config.programs * config.scratch, dtype=compute)
    pairwise_kernel[(config.programs,)](
        logits, label, *tables, scratch, *results, redo, batch, n_variables, degree, *parameters,
        K=n_values, PADDED=config.padded, TILE=config.tile, MAX=maximise, num_warps=config.num_warps,
        maxnreg=launch_config.max_registers(config.num_warps), enable_fp_fusion=True,
    )  # fmt: skip
