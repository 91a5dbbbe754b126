"""Looks up the codes of labels in tables, on CPU tensors; contract as in emnesy_gpu.reference.label_rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel


def label_rows(label: Tensor, codes: Tensor) -> Tensor:
    """Rows int32 [batch, M] of labels int64 [batch, M]."""
    rows = np.empty(label.shape, np.int32)
    look_up(label.contiguous().numpy(), codes.numpy(), rows)
    return torch.from_numpy(rows)


@kernel
def look_up(label, codes, rows):
    """The row of every code; codes int32 [M, Q + 3], that of code c in column c + 2, and -1 in the outer columns."""
    last = codes.shape[1] - 1
    for row in range(len(label)):
        for entry in range(label.shape[1]):
            column = min(max(label[row, entry], np.int64(-2)) + 2, last)
            rows[row, entry] = codes[entry, column]
