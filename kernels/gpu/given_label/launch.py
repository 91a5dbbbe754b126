"""Launches the posterior given the label on a GPU; contract as in emnesy_gpu.reference.given_label."""

from __future__ import annotations

from collections.abc import Callable

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.belief_launches import Batch, Results
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once
from emnesy_gpu.kernels.gpu.common.results import float_dtype
from emnesy_gpu.kernels.gpu.given_label.kernels import given_label_kernel
from emnesy_gpu.kernels.gpu.given_label.map import map_kernel

RowResults = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Marginals [batch, N, K], log evidence [batch], status uint8 [batch]."""


def given_label(logits: torch.Tensor, label: torch.Tensor, neighbours: torch.Tensor, results: RowResults) -> RowResults:
    """Results given the label, written into those given label 1."""
    replace_rows(logits, label, neighbours, results[:2], results)
    return results


def replace_rows(
    logits: torch.Tensor,
    label: torch.Tensor,
    neighbours: torch.Tensor,
    valid: tuple[torch.Tensor, torch.Tensor],
    results: RowResults,
    redo: torch.Tensor | None = None,
) -> None:
    """Write the results of rows with label 0, from marginals and log evidence given label 1 and the status of results.

    valid: may be the results themselves. redo: uint8 [batch], 1 where `valid` replaces the results of label 1 too.
    """
    batch, n, k = logits.shape
    config = launch_config.given_label(batch, n, k)
    scratch = logits.new_empty(config.programs * 2 * n * k, dtype=torch.float64)
    modes = logits.new_empty(config.programs * n, dtype=torch.int32)
    if batch > 0:
        with torch.cuda.device_of(logits):
            given_label_kernel[(config.programs,)](
                logits, label, neighbours, *valid, *results, results[2] if redo is None else redo, scratch, modes,
                batch, n, k, neighbours.shape[1], COPY=redo is not None, TILE=config.tile, WIDTH=config.width,
                **rounded_once(config.num_warps),
            )  # fmt: skip


def posterior(batch: Batch, neighbours: torch.Tensor, launch: Callable[[Batch, torch.dtype], None]) -> Results:
    """Results of belief propagation given the label. launch: computes rows as if their label were 1, in a type.

    neighbours: int32 [N, D], the variables that must differ from each variable, padded with -1.
    """
    if len(batch.logits) > 0:
        redo, wide = None, batch
        if batch.results[0].dtype == torch.float32:
            launch(batch, torch.float32)
            redo, wide = batch.redo, batch.in_float64()
        launch(wide, torch.float64)
        replace_rows(batch.logits, batch.label, neighbours, wide.results[:2], batch.results[:3], redo)
    return batch.results


def map_given_label(
    logits: torch.Tensor,
    label: torch.Tensor,
    pairs: torch.Tensor,
    z: torch.Tensor,
    status: torch.Tensor,
    log_joint: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The assignment, log joint, status and whether it has the label; z, status and log joint are written into."""
    batch, n, k = logits.shape
    config = launch_config.given_label(batch, n, k)
    given = logits.new_empty(batch, dtype=float_dtype(logits)) if log_joint is None else log_joint
    valid, high = logits.new_empty(batch, dtype=torch.bool), logits.new_empty(batch, n, dtype=torch.float64)
    if batch > 0:
        with torch.cuda.device_of(logits):
            map_kernel[(batch,)](
                logits, label, pairs, z, given, status, valid, high, n, k, pairs.shape[1], ALL=log_joint is None,
                TILE=config.tile, WIDTH=config.width, PAIRS=launch_config.GIVEN_LABEL_PAIRS, **rounded_once(config.num_warps),
            )  # fmt: skip
    return z, given, status, valid
