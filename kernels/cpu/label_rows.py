"""Looks up the codes of labels in tables, on CPU tensors; contract as in emnesy_gpu.reference.label_rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.logits import LARGEST_LOGIT


def label_rows(label: Tensor, codes: Tensor) -> Tensor:
    """Rows int32 [batch, M] of labels int64 [batch, M]."""
    rows = np.empty(label.shape, np.int32)
    look_up(label.contiguous().numpy(), codes.numpy(), rows)
    return torch.from_numpy(rows)


def known_rows(logits: Tensor, label: Tensor, codes: Tensor) -> np.ndarray | None:
    """The same for a few labels; None where one is unknown, or a float32 logit lies beyond +-LARGEST_LOGIT."""
    rows = np.empty(label.shape, np.int32)
    tensors = logits.data_ptr(), label.data_ptr(), codes.data_ptr()
    sizes = logits.numel(), *label.shape, codes.shape[1]
    return rows if find_known(*tensors, *sizes, rows) else None


@kernel
def find_known(logits, label, codes, n_logits, batch, n_entries, n_columns, rows):
    """Whether all is well with logits and labels; by addresses."""
    if any_beyond(numbers_at(logits, n_logits, np.float32(0)), np.float32(LARGEST_LOGIT)):
        return False
    label = matrix_at(label, batch, n_entries, np.int64(0))
    look_up_rows(label, matrix_at(codes, n_entries, n_columns, np.int32(0)), rows)
    for row in range(batch):
        for entry in range(n_entries):
            if rows[row, entry] < 0:
                return False
    return True


@kernel
def look_up(label, codes, rows):
    """See ``look_up_rows``."""
    look_up_rows(label, codes, rows)


@lane_function
def look_up_rows(label, codes, rows):
    """The row of every code; codes int32 [M, Q + 3], that of code c in column c + 2, and -1 in the outer columns."""
    last = codes.shape[1] - 1
    for row in range(len(label)):
        for entry in range(label.shape[1]):
            column = min(max(label[row, entry], np.int64(-2)) + 2, last)
            rows[row, entry] = codes[entry, column]
