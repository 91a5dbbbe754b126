"""Launch functions of exact inference over a list of assignments on a GPU; contracts as in emnesy_gpu.reference.enumeration.

One launch each, one program a row of the batch; the list stays in the caches of the multiprocessors.
"""

from __future__ import annotations

import torch
import triton.language as tl

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.scalars import signed
from emnesy_gpu.kernels.gpu.enumeration.kernels import map_kernel, posterior_kernel, sample_kernel


def posterior(
    logits: torch.Tensor, label: torch.Tensor, assignments: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    marginals = torch.empty_like(logits, dtype=_float_dtype(logits))
    log_evidence, status = _row_results(logits)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            posterior_kernel[(len(logits),)](
                logits, label, assignments, marginals, log_evidence, status, *_sizes(logits, assignments),
                **_constants(logits, assignments),
            )  # fmt: skip
    return marginals, log_evidence, status


def map_assignment(
    logits: torch.Tensor, label: torch.Tensor, assignments: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chosen = logits.new_empty(logits.shape[:2], dtype=torch.int64)
    log_joint, status = _row_results(logits)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            map_kernel[(len(logits),)](
                logits, label, assignments, chosen, log_joint, status, *_sizes(logits, assignments),
                **_constants(logits, assignments),
            )  # fmt: skip
    return chosen, log_joint, status


def sample(
    logits: torch.Tensor, label: torch.Tensor, assignments: torch.Tensor, n_samples: int, seed: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, n, _ = logits.shape
    drawn = logits.new_empty((n_samples, batch, n), dtype=torch.int64)
    _, status = _row_results(logits)
    if batch > 0:
        compute = tl.float64 if logits.dtype == torch.float64 else tl.float32
        with torch.cuda.device_of(logits):
            sample_kernel[(batch,)](
                logits, label, assignments, drawn, status, batch, *_sizes(logits, assignments), n_samples,
                signed(seed), first_row, SAMPLES=launch_config.ENUMERATION_SAMPLES, COMPUTE=compute,
                **_constants(logits, assignments, launch_config.ENUMERATION_SAMPLE_BLOCK),
            )  # fmt: skip
    return drawn, status


def _float_dtype(logits: torch.Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _row_results(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    batch = logits.shape[0]
    return logits.new_empty(batch, dtype=_float_dtype(logits)), logits.new_empty(batch, dtype=torch.uint8)


def _sizes(logits: torch.Tensor, assignments: torch.Tensor) -> tuple[int, int, int]:
    return assignments.shape[0], logits.shape[1], logits.shape[2]


def _constants(logits: torch.Tensor, assignments: torch.Tensor, largest_block: int = 512) -> dict[str, int | bool]:
    """Tile sizes and options; rounding a * b + c once changes results, and the limit keeps the assembler from spilling."""
    config = launch_config.enumeration(*_sizes(logits, assignments), largest_block)
    constants = {"BLOCK": config.block, "ROWS": config.rows, "WIDTH": config.width, "num_warps": config.num_warps}
    return constants | {"maxnreg": launch_config.max_registers(config.num_warps), "enable_fp_fusion": True}
