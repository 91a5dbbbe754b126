"""Few float32 rows by the shortest way: results are made, and one kernel does the rest by addresses alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

FLOAT32, BOOL = np.dtype(np.float32), np.dtype(np.bool_)

FewRowResults = tuple[Tensor, Tensor, Tensor]
"""Marginals, gradient or assignment, log evidence [batch], and bool [batch]: whether the row is possible."""


class Call(NamedTuple):
    """How few rows of a problem are computed; made once for each problem.

    kernel: (the addresses of logits, labels, values, log evidence and status, batch, *numbers, *arguments, work) -> how
        many rows are left; those that are not have status POSSIBLE. numbers: prior_share and factor of a posterior.
    most_rows: that may be given.
    work: batch -> scratch.
    kept: what keeps the memory behind addresses among the arguments.
    values: logits -> uninitialised marginals, or the like.
    beyond: the call for more rows, where there is one.
    most_alone: rows that may be given where torch has one thread, so that there is nothing to share.
    """

    kernel: Callable[..., int]
    most_rows: int
    arguments: tuple[Any, ...]
    work: Callable[[int], np.ndarray]
    kept: Any
    values: Callable[[Tensor], Tensor] = torch.empty_like
    beyond: Any = None
    most_alone: int = 0


def new_assignment(logits: Tensor) -> Tensor:
    """Uninitialised values int64 of the symbols, for calls that find the most probable ones."""
    # torch takes a shape of its own up to 7 us longer than NumPy does.
    return torch.from_numpy(np.empty(logits.shape[:-1], np.int64))


def on_few_rows(call: Call, logits: Tensor, label: Tensor, *numbers: float) -> FewRowResults | None:
    """(posterior - prior_share * prior) * factor, log evidence and possible; None where a row is left.

    Or the most probable symbols and the log of their probability, by a call without numbers.

    None also for other logits than float32, and for more rows.
    """
    kernel, most_rows, arguments, work, _, new_values, beyond, most_alone = call
    batch = logits.shape[0]
    if most_rows < batch <= most_alone and torch.get_num_threads() == 1:
        most_rows = most_alone
    if logits.dtype is not torch.float32 or not 0 < batch <= most_rows:
        return None if beyond is None else on_few_rows(beyond, logits, label, *numbers)
    logits, label, status = logits.contiguous(), label.contiguous(), np.empty(batch, BOOL)
    # NumPy makes small arrays sooner than torch does.
    log_evidence, possible = torch.from_numpy(np.empty(batch, FLOAT32)), torch.from_numpy(status)
    values = new_values(logits)
    inputs, outputs = (logits.data_ptr(), label.data_ptr()), (values.data_ptr(), log_evidence.data_ptr())
    if kernel(*inputs, *outputs, possible.data_ptr(), batch, *numbers, *arguments, work(batch)):
        return None
    status.fill(True)  # the same memory: now it says which rows are possible
    return values, log_evidence, possible
