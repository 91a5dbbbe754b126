"""Looks up the codes of labels in tables, on CUDA tensors; contract as in emnesy_gpu.reference.label_rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once

BLOCK = 256


@triton.jit(do_not_specialize=["n_entries", "n_codes"])
def label_rows_kernel(label_ptr, codes_ptr, rows_ptr, size, n_entries, n_codes, BLOCK: tl.constexpr):
    """Grid (ceil(size / BLOCK),). label and rows [size = batch * n_entries], codes [n_entries, n_codes]."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    code = tl.minimum(tl.maximum(tl.load(label_ptr + index, mask=inside, other=0), -2), n_codes - 3)
    row = tl.load(codes_ptr + (index % n_entries) * n_codes + code + 2, mask=inside)
    tl.store(rows_ptr + index, row, mask=inside)


def label_rows(label: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Rows int32 [batch, M] of labels int64 [batch, M]."""
    label, rows = label.contiguous(), torch.empty_like(label, dtype=torch.int32, memory_format=torch.contiguous_format)
    if label.numel() > 0:
        with torch.cuda.device_of(label):
            label_rows_kernel[(triton.cdiv(label.numel(), BLOCK),)](
                label, codes, rows, label.numel(), *codes.shape, BLOCK=BLOCK, **rounded_once(4)
            )  # fmt: skip
    return rows
