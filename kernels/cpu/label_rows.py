"""Looks up the codes of labels in tables, on CPU tensors; contract as in emnesy_gpu.reference.label_rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.logits import LARGEST_LOGIT


def label_rows(label: Tensor, codes: Tensor) -> Tensor:
    """Rows int32 [batch, M] of labels int64 [batch, M]."""
    rows = np.empty(label.shape, np.int32)
    look_up(label.contiguous().numpy(), codes.numpy(), rows)
    return torch.from_numpy(rows)


@kernel
def look_up(label, codes, rows):
    """See ``look_up_rows``."""
    look_up_rows(label, codes, rows)


class Codes(NamedTuple):
    """Where a table of codes lies, as a kernel for few rows takes it."""

    address: int
    n_entries: int
    n_columns: int


def codes_of(codes: Tensor) -> Codes:
    return Codes(codes.data_ptr(), *codes.shape)


def scratch_rows(codes: Codes, batch: int) -> int:
    """Rows of scratch that those of the labels of a batch take: each has the bytes of FLOAT32_LANES of them."""
    return -(-batch * codes.n_entries // FLOAT32_LANES)


@inlined
def known_rows(work, first, logits, label, batch, n_logits, codes):
    """The rows of few labels, in scratch from row ``first`` on, and whether all are known and no logit is too large.

    logits, label: addresses, of ``n_logits`` float32 a row and of int64.
    """
    if any_beyond(numbers_at(logits, batch * n_logits, np.float32(0)), np.float32(LARGEST_LOGIT)):
        return label_rows_at(work, first, label, 0, codes)[0], False
    return label_rows_at(work, first, label, batch, codes)


@inlined
def label_rows_at(work, first, label, batch, codes):
    """The same without a look at the logits."""
    address, n_entries, n_columns = codes
    rows = matrix_at(work.ctypes.data + 4 * FLOAT32_LANES * first, batch, n_entries, np.int32(0))
    label = matrix_at(label, batch, n_entries, np.int64(0))
    look_up_rows(label, matrix_at(address, n_entries, n_columns, np.int32(0)), rows)
    known = True
    for row in range(batch):
        for entry in range(n_entries):
            known &= rows[row, entry] >= 0
    return rows, known


@inlined
def look_up_rows(label, codes, rows):
    """The row of every code; codes int32 [M, Q + 3], that of code c in column c + 2, and -1 in the outer columns."""
    last = codes.shape[1] - 1
    for row in range(len(label)):
        for entry in range(label.shape[1]):
            column = min(max(label[row, entry], np.int64(-2)) + 2, last)
            rows[row, entry] = codes[entry, column]
