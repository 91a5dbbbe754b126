"""Launch functions of the carry chain (digit-wise addition) on a GPU; contracts as in emnesy_gpu.reference.carry_chain.

Two addends: one launch, 160 bytes a position at base 10 (logits in, marginals out). Sums of more than a tile of positions
(1024 for bases up to 10) take two launches that read the logits twice, with 24 bytes of scratch a chunk.
"""

from __future__ import annotations

import torch
import triton

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.carry_chain.general import general_kernel
from emnesy_gpu.kernels.gpu.carry_chain.map import map_kernel
from emnesy_gpu.kernels.gpu.carry_chain.pair import CHUNK_VALUES, pair_chunk_kernel, pair_kernel
from emnesy_gpu.kernels.gpu.carry_chain.sampling import sample_kernel
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed


def _options(num_warps: int, limit_registers: bool = True) -> dict[str, int | bool | None]:
    """Rounding a * b + c once changes results, so that is said here; the limit keeps the assembler from spilling."""
    limit = launch_config.max_registers(num_warps) if limit_registers else None
    return {"num_warps": num_warps, "maxnreg": limit, "enable_fp_fusion": True}


def posterior(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _marginals(logits, label, None)


def em_gradient(
    logits: torch.Tensor, label: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _marginals(logits, label, scale)


def map_assignment(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, n_addends, n_digits, base = logits.shape
    digits = torch.empty(batch, n_addends, n_digits, dtype=torch.int64, device=logits.device)
    log_joint = torch.empty(batch, dtype=_float_dtype(logits), device=logits.device)
    status = torch.empty(batch, dtype=torch.uint8, device=logits.device)
    if batch > 0:
        config = launch_config.carry_chain_general(n_addends, base)
        with torch.cuda.device_of(logits):
            map_kernel[(triton.cdiv(batch, config.samples),)](
                logits, label, digits, log_joint, status, batch, n_digits, base,
                ADDENDS=n_addends, N_EXTRA=label.shape[1] - n_digits, SAMPLES=config.samples,
                WIDTH=config.width, SUMS=config.sums, **_options(config.num_warps),
            )  # fmt: skip
    return digits, log_joint, status


def sample(
    logits: torch.Tensor, label: torch.Tensor, n_samples: int, seed: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if n_samples == 0:
        return logits.new_empty((0, *logits.shape[:-1]), dtype=torch.int64), posterior(logits, label)[2]
    batch, n_addends, n_digits, base = logits.shape
    digits = torch.empty(n_samples, batch, n_addends, n_digits, dtype=torch.int64, device=logits.device)
    status = torch.empty(batch, dtype=torch.uint8, device=logits.device)
    if batch > 0:
        config = launch_config.carry_chain_general(n_addends, base)
        with torch.cuda.device_of(logits):
            sample_kernel[(batch,)](
                logits, label, digits, status, batch, n_digits, base, n_samples, signed(seed), first_row,
                ADDENDS=n_addends, N_EXTRA=label.shape[1] - n_digits, WIDTH=config.width,
                SUMS=config.sums, LANES=launch_config.carry_chain_sample_lanes(n_samples), **_options(1),
            )  # fmt: skip
    return digits, status


def _marginals(
    logits: torch.Tensor, label: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The posterior (scale None) or the EM gradient, with log evidence and status."""
    dtype = _float_dtype(logits)
    out = torch.empty_like(logits, dtype=dtype)
    log_evidence = torch.empty(len(logits), dtype=dtype, device=logits.device)
    status = torch.empty(len(logits), dtype=torch.uint8, device=logits.device)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            launch = _launch_pair if logits.shape[1] == 2 else _launch_general
            launch(logits, label, out, log_evidence, status, scale)
    return out, log_evidence, status


def _launch_pair(
    logits: torch.Tensor,
    label: torch.Tensor,
    out: torch.Tensor,
    log_evidence: torch.Tensor,
    status: torch.Tensor,
    scale: float | None,
) -> None:
    batch, _, n_digits, base = logits.shape
    config = launch_config.carry_chain_pair(n_digits, base, log_evidence.element_size())
    n_chunks = triton.cdiv(n_digits, config.lanes * config.run)
    constants = {"BASE": base, "N_EXTRA": label.shape[1] - n_digits, "LANES": config.lanes, "RUN": config.run}
    constants |= _options(config.num_warps, limit_registers=False)
    chunks = log_evidence
    if n_chunks > 1:
        chunks = log_evidence.new_empty(batch, n_chunks, CHUNK_VALUES.value)
        pair_chunk_kernel[(batch, n_chunks)](logits, label, chunks, n_digits, **constants)
    pair_kernel[(triton.cdiv(batch, config.samples), n_chunks)](
        logits,
        label,
        chunks,
        out,
        log_evidence,
        status,
        batch,
        n_digits,
        *high_and_low(1.0 if scale is None else scale),
        SAMPLES=config.samples,
        GRADIENT=scale is not None,
        CHUNKED=n_chunks > 1,
        **constants,
    )


def _launch_general(
    logits: torch.Tensor,
    label: torch.Tensor,
    out: torch.Tensor,
    log_evidence: torch.Tensor,
    status: torch.Tensor,
    scale: float | None,
) -> None:
    batch, n_addends, n_digits, base = logits.shape
    config = launch_config.carry_chain_general(n_addends, base)
    general_kernel[(triton.cdiv(batch, config.samples),)](
        logits,
        label,
        out,
        log_evidence,
        status,
        batch,
        n_digits,
        base,
        *high_and_low(1.0 if scale is None else scale),
        ADDENDS=n_addends,
        N_EXTRA=label.shape[1] - n_digits,
        SAMPLES=config.samples,
        WIDTH=config.width,
        SUMS=config.sums,
        GRADIENT=scale is not None,
        **_options(config.num_warps),
    )


def _float_dtype(logits: torch.Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
