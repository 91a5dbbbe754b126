"""Launches kernels of the carry chain (digit-wise addition) on a GPU; contracts as in emnesy_gpu.reference.carry_chain.

Two addends: one launch, 160 bytes a position at base 10 (logits in, marginals out). It is CUDA C in float32 where CuPy
is installed, else Triton. Sums of more than a tile of positions (512 for bases up to 10) take two launches of Triton
that read the logits twice, with 24 bytes of scratch a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from emnesy_gpu.kernels import carry_chain_config, launch_config
from emnesy_gpu.kernels.gpu.carry_chain import cuda
from emnesy_gpu.kernels.gpu.carry_chain.pair import CHUNK_VALUES, pair_chunk_kernel, pair_kernel
from emnesy_gpu.kernels.gpu.carry_chain.row_map import row_map_kernel
from emnesy_gpu.kernels.gpu.carry_chain.row_marginals import row_marginals_kernel
from emnesy_gpu.kernels.gpu.carry_chain.row_sampling import row_sample_kernel
from emnesy_gpu.kernels.gpu.common.launch_options import LaunchOptions, rounded_once
from emnesy_gpu.kernels.gpu.common.results import float_dtype, row_results
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed

PINNED = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)
"""Two addends in one warp: Triton 3.6 else moves numbers between layouts, with 178 barriers a block in place of 7."""


class _Marginals(NamedTuple):
    """Inputs and results of a launch, and the scale of the EM gradient, None for the posterior."""

    logits: torch.Tensor  # [batch, n_addends, n_digits, base]
    label: torch.Tensor  # int64 [batch, n_extra + n_digits]
    out: torch.Tensor  # as the logits
    log_evidence: torch.Tensor  # [batch]
    status: torch.Tensor  # uint8 [batch]
    scale: float | None


def posterior(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marginals as the logits, log evidence and status [batch]."""
    return _marginals(logits, label, None)


def em_gradient(
    logits: torch.Tensor, label: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The scaled gradient of -log p(label) by the logits, log evidence and status [batch]."""
    return _marginals(logits, label, scale)


def map_assignment(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Digits int64 [batch, n_addends, n_digits], their log probabilities and status [batch]."""
    batch, n_addends, n_digits, base = logits.shape
    digits = torch.empty(batch, n_addends, n_digits, dtype=torch.int64, device=logits.device)
    log_joint, status = row_results(logits)
    if batch > 0:
        with torch.cuda.device_of(logits):
            _launch_row_map(logits, label, (digits, log_joint, status))
    return digits, log_joint, status


def sample(
    logits: torch.Tensor, label: torch.Tensor, n_samples: int, seed: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples int64 [n_samples, batch, n_addends, n_digits], and status [batch]."""
    if n_samples == 0:
        return logits.new_empty((0, *logits.shape[:-1]), dtype=torch.int64), posterior(logits, label)[2]
    batch, n_addends, n_digits, base = logits.shape
    digits = torch.empty(n_samples, batch, n_addends, n_digits, dtype=torch.int64, device=logits.device)
    status = torch.empty(batch, dtype=torch.uint8, device=logits.device)
    if batch > 0:
        with torch.cuda.device_of(logits):
            _launch_row_sample(logits, label, (digits, status), seed, first_row)
    return digits, status


def _marginals(
    logits: torch.Tensor, label: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The posterior (scale None) or the EM gradient, with log evidence and status."""
    out = torch.empty_like(logits, dtype=float_dtype(logits))
    log_evidence, status = row_results(logits)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            _launch_marginals(_Marginals(logits, label, out, log_evidence, status, scale))
    return out, log_evidence, status


def _launch_marginals(rows: _Marginals) -> None:
    """By the number of addends, and by whether the tables of a row fit in the registers of a thread."""
    _, n_addends, _, base = rows.logits.shape
    if n_addends == 2:
        _launch_pair(rows)
    else:
        _launch_row_marginals(rows)


def _launch_pair(rows: _Marginals) -> None:
    """A scan over the positions."""
    logits, label, out, log_evidence, status, scale = rows
    if cuda.fits(logits):
        cuda.launch(logits, label, (out, log_evidence, status), scale)
    else:
        _launch_triton_pair(rows)


def _launch_triton_pair(rows: _Marginals) -> None:
    """In chunks where the positions are too many for a tile."""
    logits, label, out, log_evidence, status, scale = rows
    batch, _, n_digits, base = logits.shape
    config = carry_chain_config.pair(n_digits, base, log_evidence.element_size(), least_threads=32 if PINNED else 64)
    n_chunks = triton.cdiv(n_digits, config.lanes * config.run)
    constants: LaunchOptions = {"BASE": base, "N_EXTRA": label.shape[1] - n_digits}
    constants |= {"LANES": config.lanes, "RUN": config.run, "PINNED": PINNED and config.lanes <= launch_config.WARP}
    constants |= rounded_once(config.num_warps, limit_registers=False)
    chunks = log_evidence
    if n_chunks > 1:
        chunks = log_evidence.new_empty(batch, n_chunks, CHUNK_VALUES.value)
        pair_chunk_kernel[(batch, n_chunks)](logits, label, chunks, n_digits, **constants)
    pair_kernel[(triton.cdiv(batch, config.samples), n_chunks)](
        logits, label, chunks, out, log_evidence, status, batch, n_digits,
        *high_and_low(1.0 if scale is None else scale),
        SAMPLES=config.samples, GRADIENT=scale is not None, CHUNKED=n_chunks > 1, **constants,
    )  # fmt: skip


def _launch_row_map(logits: torch.Tensor, label: torch.Tensor, results: tuple[torch.Tensor, ...]) -> None:
    """A thread for each row of the batch."""
    batch, n_addends, n_digits, base = logits.shape
    config = carry_chain_config.row_map(n_addends, base, results[1].element_size())
    programs, scratch = _row_scratch(logits, triton.cdiv(batch, launch_config.WARP), config.entries)
    row_map_kernel[(programs,)](
        logits, label, *results, scratch, batch, n_digits, base, ADDENDS=n_addends, BASE=base,
        N_EXTRA=label.shape[1] - n_digits, ROWS=launch_config.WARP, ENTRIES=config.entries,
        LOGITS_KEPT=config.logits_kept, **rounded_once(1),
    )  # fmt: skip


def _row_scratch(
    like: torch.Tensor, blocks: int, entries: int, dtype: torch.dtype = torch.float64
) -> tuple[int, torch.Tensor]:
    """Programs for blocks of a warp of rows, and [programs, entries, WARP] for them, where a tensor is."""
    programs = blocks
    if entries > 0:
        programs = launch_config.resident_programs(blocks, dtype.itemsize * launch_config.WARP * entries)
    return programs, like.new_empty(programs, entries, launch_config.WARP, dtype=dtype)


def _launch_row_sample(
    logits: torch.Tensor, label: torch.Tensor, results: tuple[torch.Tensor, ...], seed: int, first_row: int
) -> None:
    """A thread for each row of the batch and some of its samples."""
    batch, n_addends, n_digits, base = logits.shape
    n_samples = len(results[0])
    config = carry_chain_config.general(n_addends, base)
    group = carry_chain_config.samples_of_thread(batch, n_samples)
    entries = carry_chain_config.row_sample_entries(n_addends, base)
    blocks = triton.cdiv(batch, launch_config.WARP) * triton.cdiv(n_samples, group)
    programs, scratch = _row_scratch(logits, blocks, entries)
    row_sample_kernel[(programs,)](
        logits, label, *results, scratch, batch, n_digits, base, n_samples, group, signed(seed), first_row,
        ADDENDS=n_addends, BASE=base, N_EXTRA=label.shape[1] - n_digits, WIDTH=config.width, SUMS=config.sums,
        ROWS=launch_config.WARP, ENTRIES=entries, **rounded_once(1),
    )  # fmt: skip


def _launch_row_marginals(rows: _Marginals) -> None:
    """A thread for each row of the batch."""
    logits, label, out, log_evidence, status, scale = rows
    batch, n_addends, n_digits, base = logits.shape
    config = carry_chain_config.general(n_addends, base)
    entries = carry_chain_config.row_marginals_entries(n_addends, base, log_evidence.element_size())
    programs, scratch = _row_scratch(logits, triton.cdiv(batch, launch_config.WARP), entries, log_evidence.dtype)
    row_marginals_kernel[(programs,)](
        logits, label, out, log_evidence, status, scratch, batch, n_digits, base,
        *high_and_low(1.0 if scale is None else scale),
        ADDENDS=n_addends, BASE=base, N_EXTRA=label.shape[1] - n_digits, WIDTH=config.width, SUMS=config.sums,
        ROWS=launch_config.WARP, ENTRIES=entries, GRADIENT=scale is not None, **rounded_once(1),
    )  # fmt: skip
