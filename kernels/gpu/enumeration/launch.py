"""Launches exact inference over a list of assignments on a GPU; contracts as in emnesy_gpu.reference.enumeration.

One launch each, one program a row of the batch; the list stays in the caches of the multiprocessors.
"""

from __future__ import annotations

import torch
import triton.language as tl

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import LaunchOptions, rounded_once
from emnesy_gpu.kernels.gpu.common.results import float_dtype, row_results
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed
from emnesy_gpu.kernels.gpu.enumeration.map import map_kernel
from emnesy_gpu.kernels.gpu.enumeration.posterior import posterior_kernel
from emnesy_gpu.kernels.gpu.enumeration.sampling import sample_kernel


def posterior(
    logits: torch.Tensor, label: torch.Tensor, assignments: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marginals [batch, n, k], log evidence and status [batch] of logits [batch, n, k]."""
    return _marginals(logits, label, assignments, None)


def em_gradient(
    logits: torch.Tensor, label: torch.Tensor, assignments: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(softmax(logits) - posterior) * scale [batch, n, k], log evidence and status [batch]."""
    return _marginals(logits, label, assignments, scale)


def _marginals(
    logits: torch.Tensor, label: torch.Tensor, assignments: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The posterior (scale None) or the EM gradient, with log evidence and status."""
    out = torch.empty_like(logits, dtype=float_dtype(logits))
    log_evidence, status = row_results(logits)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            posterior_kernel[(len(logits),)](
                logits, label, assignments, out, log_evidence, status, *_sizes(logits, assignments),
                *high_and_low(1.0 if scale is None else scale), GRADIENT=scale is not None,
                **_constants(logits, assignments, launch_config.ENUMERATION_BLOCK),
            )  # fmt: skip
    return out, log_evidence, status


def map_assignment(
    logits: torch.Tensor, label: torch.Tensor, assignments: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Assignments int64 [batch, n], their log probabilities and status [batch]."""
    chosen = logits.new_empty(logits.shape[:2], dtype=torch.int64)
    log_joint, status = row_results(logits)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            map_kernel[(len(logits),)](
                logits, label, assignments, chosen, log_joint, status, *_sizes(logits, assignments),
                **_constants(logits, assignments, launch_config.ENUMERATION_BLOCK),
            )  # fmt: skip
    return chosen, log_joint, status


def sample(
    logits: torch.Tensor,
    label: torch.Tensor,
    assignments: torch.Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    given: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples int64 [n_samples, batch, n], and status [batch].

    given: the same two, of which the rows with label 0 are kept.
    """
    batch = len(logits)
    results = given or (logits.new_empty((n_samples, *logits.shape[:2]), dtype=torch.int64), row_results(logits)[1])
    if batch > 0:
        compute = tl.float64 if logits.dtype == torch.float64 else tl.float32
        with torch.cuda.device_of(logits):
            sample_kernel[(batch,)](
                logits, label, assignments, *results, batch, *_sizes(logits, assignments), n_samples, signed(seed),
                first_row, int(given is not None), SAMPLES=launch_config.ENUMERATION_SAMPLES, COMPUTE=compute,
                **_constants(logits, assignments, launch_config.ENUMERATION_SAMPLE_BLOCK),
            )  # fmt: skip
    return results


def _sizes(logits: torch.Tensor, assignments: torch.Tensor) -> tuple[int, int, int]:
    """Numbers of assignments, symbols and values."""
    return assignments.shape[0], logits.shape[1], logits.shape[2]


def _constants(logits: torch.Tensor, assignments: torch.Tensor, largest_block: int) -> LaunchOptions:
    config = launch_config.enumeration(*_sizes(logits, assignments), largest_block)
    constants: LaunchOptions = {"BLOCK": config.block, "ROWS": config.rows, "WIDTH": config.width}
    return constants | rounded_once(config.num_warps)
