"""Launches the CUDA C kernel of two addends: float32, chains of up to 512 positions."""

from __future__ import annotations

import torch
import triton

from emnesy_gpu.kernels import carry_chain_config, launch_config
from emnesy_gpu.kernels.cuda import loader

MAX_BASE = 16
"""A thread keeps the numbers of both digits in registers."""

MAX_WARPS = 8
ALIGNMENT = 16


def fits(logits: torch.Tensor) -> bool:
    """Whether the kernel can run: CuPy, an Nvidia GPU, float32, and room in registers for a position and a row."""
    _, _, n_digits, base = logits.shape
    fits_registers = base <= MAX_BASE and carry_chain_config.block(n_digits, base).warps <= MAX_WARPS
    return fits_registers and logits.dtype == torch.float32 and logits.is_cuda and loader.available()


def launch(
    logits: torch.Tensor,
    label: torch.Tensor,
    results: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    scale: float | None,
) -> None:
    """Results (as the logits, log evidence, status) of rows with two addends; see carry_chain.cu."""
    n_rows, _, n_digits, base = logits.shape
    block = carry_chain_config.block(n_digits, base)
    if logits.data_ptr() % ALIGNMENT:
        logits = logits.clone()
    loader.launch(
        "carry_chain.cu",
        "marginals",
        (("BASE", base), ("DIGITS", n_digits), ("RUN", block.run), ("ROWS", block.rows),
         ("GRADIENT", int(scale is not None))),
        triton.cdiv(n_rows, block.rows),
        launch_config.WARP * block.warps,
        block.shared_bytes,
        (logits, label, *results, n_rows, label.shape[1] - n_digits, 1.0 if scale is None else float(scale)),
    )  # fmt: skip
