"""Tables of all assignments for tests of their kernels."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from emnesy_gpu.kernels.joint_tables import JointTable, left_symbols, sizes_and_strides


def table_of(sizes: tuple[int, ...], label: Callable[[Tensor], Tensor]) -> JointTable:
    """The table of a function int64 [M, n] -> [M, entries]."""
    z = torch.cartesian_prod(*[torch.arange(size) for size in sizes]).view(-1, len(sizes))
    known, codes = torch.unique(label(z), dim=0, return_inverse=True)
    first = left_symbols(sizes)
    symbols = torch.tensor(sizes_and_strides(sizes), dtype=torch.int32)
    return JointTable(symbols, codes.to(torch.uint8), known, first, prod(sizes[:first]), prod(sizes[first:]))


def sums_and_parities(sizes: tuple[int, ...]) -> JointTable:
    """The label is the sum of the symbols minus 2, and the parity of the first one."""
    return table_of(sizes, lambda z: torch.stack([z.sum(-1) - 2, z[:, 0] % 2], -1))


def per_row(table: JointTable, label: Tensor) -> JointTable:
    """The same table for rows with these labels, with a score: how many entries of the label are equal."""
    scores = (label[:, None] == table.known).sum(-1)[:, table.codes.long()].T.contiguous()
    return table._replace(codes=scores, known=table.known[:0], least_score=table.known.shape[1])
