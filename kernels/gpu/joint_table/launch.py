"""Launches exact inference over the table of all assignments on a GPU; contracts as in emnesy_gpu.reference.joint_table.

One launch each, one program a row of the batch; the table stays in the caches of the multiprocessors.
"""

from __future__ import annotations

import torch
import triton.language as tl

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import LaunchOptions, rounded_once
from emnesy_gpu.kernels.gpu.common.results import float_dtype, row_results
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed
from emnesy_gpu.kernels.gpu.joint_table.map import map_kernel
from emnesy_gpu.kernels.gpu.joint_table.posterior import posterior_kernel
from emnesy_gpu.kernels.gpu.joint_table.sampling import sample_kernel
from emnesy_gpu.kernels.joint_tables import JointTable


def posterior(
    logits: torch.Tensor, label: torch.Tensor, table: JointTable
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marginals [batch, n, k], log evidence and status [batch] of logits [batch, n, k]."""
    return _marginals(logits, label, table, None)


def em_gradient(
    logits: torch.Tensor, label: torch.Tensor, table: JointTable, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(softmax(logits) - posterior) * scale [batch, n, k], log evidence and status [batch]."""
    return _marginals(logits, label, table, scale)


def _marginals(
    logits: torch.Tensor, label: torch.Tensor, table: JointTable, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The posterior (scale None) or the EM gradient, with log evidence and status."""
    out = torch.empty_like(logits, dtype=float_dtype(logits))
    log_evidence, status = row_results(logits)
    scores, sums = _scratch(logits, table, out.dtype)
    values, rests = launch_config.joint_table_values(logits.shape[2])
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            posterior_kernel[(len(logits),)](
                logits, label, *_tables(table), out, log_evidence, status, scores, sums, *_sizes(logits, table),
                *high_and_low(1.0 if scale is None else scale), GRADIENT=scale is not None, VALUES=values, RESTS=rests,
                **_constants(logits, table, launch_config.JOINT_TABLE_TILE),
            )  # fmt: skip
    return out, log_evidence, status


def map_assignment(
    logits: torch.Tensor, label: torch.Tensor, table: JointTable
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Assignments int64 [batch, n], their log probabilities, status, and bool: whether that is POSSIBLE [batch]."""
    chosen = logits.new_empty(logits.shape[:2], dtype=torch.int64)
    log_joint, status = row_results(logits)
    possible = torch.empty_like(status, dtype=torch.bool)
    scores, _ = _scratch(logits, table, None)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            map_kernel[(len(logits),)](
                logits, label, *_tables(table), chosen, log_joint, status, possible, scores, *_sizes(logits, table),
                **_constants(logits, table, launch_config.JOINT_TABLE_TILE),
            )  # fmt: skip
    return chosen, log_joint, status, possible


def sample(
    logits: torch.Tensor, label: torch.Tensor, table: JointTable, n_samples: int, seed: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples int64 [n_samples, batch, n], and status [batch]."""
    batch = len(logits)
    drawn = logits.new_empty((n_samples, *logits.shape[:2]), dtype=torch.int64)
    _, status = row_results(logits)
    scores, sums = _scratch(logits, table, torch.float64)
    if batch > 0:
        compute = tl.float64 if logits.dtype == torch.float64 else tl.float32
        with torch.cuda.device_of(logits):
            sample_kernel[(batch,)](
                logits, label, *_tables(table), drawn, status, scores, sums, *_sizes(logits, table), n_samples, signed(seed), first_row, COMPUTE=compute, SAMPLES=launch_config.JOINT_TABLE_SAMPLES,
                **_constants(logits, table, launch_config.JOINT_TABLE_SAMPLE_TILE),
            )  # fmt: skip
    return drawn, status


def _tables(table: JointTable) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Without known labels another tensor stands for them, which is not read: an empty one may have no address."""
    return table.symbols, table.codes, table.known if len(table.known) > 0 else table.symbols


def _sizes(logits: torch.Tensor, table: JointTable) -> tuple[int, ...]:
    """Of known labels, their entries, symbols, values, left symbols, sides and rows the number; and the least score."""
    sides = table.n_left, table.left, table.right
    return *table.known.shape, *logits.shape[1:], *sides, len(logits), table.least_score


def _scratch(
    logits: torch.Tensor, table: JointTable, sums: torch.dtype | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores of the sides after two numbers of each symbol, and weights and sums of the sides, or None."""
    batch, n, _ = logits.shape
    sides = table.left + table.right
    scores = logits.new_empty(batch, 2 * n + sides, dtype=torch.float64)
    return scores, None if sums is None else logits.new_empty(batch, 2, sides, dtype=sums)


def _constants(logits: torch.Tensor, table: JointTable, largest_tile: int) -> LaunchOptions:
    config = launch_config.joint_table(logits.shape[1], logits.shape[2], table.left, table.right, largest_tile)
    constants: LaunchOptions = {
        "PER_ROW": len(table.known) == 0, "LANES": config.lanes, "OTHERS": config.others, "SIDES": config.sides,
        "ROWS": config.rows, "WIDTH": config.width,
    }  # fmt: skip
    return constants | rounded_once(config.num_warps)
