"""Launch functions of the carry chain (digit-wise addition) on a GPU; contracts as in emnesy_gpu.reference.carry_chain."""

from __future__ import annotations

import struct

import torch
import triton

from .. import launch_config
from .carry_chain_pair import pair_kernel

# Results depend on whether a * b + c is rounded once or twice: say so instead of inheriting a default.
_OPTIONS = {"enable_fp_fusion": True}


def _float_dtype(logits: torch.Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _high_and_low(scale: float) -> tuple[float, float]:
    """scale as the sum of two float32: a kernel's scalar arguments have no more bits."""
    (high,) = struct.unpack("f", struct.pack("f", scale))
    return high, scale - high


def _paired(tensor: torch.Tensor) -> bool:
    """Whether two neighbouring values can move as one integer."""
    width = 2 * tensor.element_size()
    return width <= 8 and tensor.shape[-1] % 2 == 0 and tensor.data_ptr() % width == 0


def _marginals(
    logits: torch.Tensor, label: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, n_addends, n_digits, base = logits.shape
    dtype = _float_dtype(logits)
    out = torch.empty_like(logits, dtype=dtype)
    evidence = torch.empty(batch, dtype=dtype, device=logits.device)
    status = torch.empty(batch, dtype=torch.uint8, device=logits.device)
    if batch == 0:
        return out, evidence, status
    config = launch_config.carry_chain_pair(n_digits, base, evidence.element_size())
    with torch.cuda.device_of(logits):
        pair_kernel[(triton.cdiv(batch, config.samples),)](
            logits,
            label,
            out,
            evidence,
            status,
            batch,
            n_digits,
            *_high_and_low(1.0 if scale is None else scale),
            BASE=base,
            N_EXTRA=label.shape[1] - n_digits,
            SAMPLES=config.samples,
            LANES=config.lanes,
            RUN=config.run,
            GRADIENT=scale is not None,
            PAIRED=_paired(logits) and _paired(out),
            num_warps=config.num_warps,
            **_OPTIONS,
        )
    return out, evidence, status


def posterior(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _marginals(logits, label, None)


def em_gradient(
    logits: torch.Tensor, label: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _marginals(logits, label, scale)
