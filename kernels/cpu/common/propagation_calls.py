"""Calls of kernels by addresses: arrays would cost a call of a few rows more than a sweep does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.pointers import address_of, numbers_at
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, PropagationResults
from emnesy_gpu.kernels.cpu.common.subnormals import flushed
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

FLOAT32, BOOL, INT32 = np.dtype(np.float32), np.dtype(np.bool_), np.dtype(np.int32)

_going = np.zeros(1, np.uint8)
NEVER = address_of(_going)
"""In place of the address of what tells to stop."""


class Call(NamedTuple):
    """A kernel for the rows of a graph, in one float type; made once.

    kernel: (the addresses of contiguous logits, labels, ``PropagationResults`` in their order and what tells to stop,
        batch, sweeps, damping, tolerance, the largest magnitude of a finite logit, *arguments, work) -> how many rows
        are not POSSIBLE; all of them if a logit is larger.
    work: makes scratch.
    kept: what keeps the memory behind addresses among the arguments.
    """

    kernel: Callable[..., int]
    arguments: tuple[Any, ...]
    work: Callable[[], np.ndarray]
    kept: object


def on_arrays(call: Call, options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults) -> int:
    """Rows [batch, n, K] and their results in the float type of a call.

    Returns how many rows are left: their status is RECOMPUTE, and the other results are not known.
    """
    addresses = [address_of(array) for array in (logits, label, *results, options.stopped)]
    numbers = options.iterations, options.damping, options.tolerance, np.inf
    with flushed():
        call.kernel(*addresses, len(logits), *numbers, *call.arguments, call.work())
    return int(np.count_nonzero(results.status == RECOMPUTE))


def on_few_rows(call: Call, logits: Tensor, label: Tensor, limit: float, *numbers: float) -> tuple[Tensor, ...] | None:
    """Marginals, log evidence, possible, sweeps, change, and whether it is below a limit; None where a row is left.

    Rows are float32. numbers: sweeps, damping and tolerance.
    """
    kernel, arguments, work, _ = call
    batch, logits, label = logits.shape[0], logits.contiguous(), label.contiguous()
    # NumPy makes and compares small arrays sooner than torch does.
    status, changes, marginals = np.empty(batch, BOOL), np.empty(batch, FLOAT32), torch.empty_like(logits)
    log_evidence, possible = torch.from_numpy(np.empty(batch, FLOAT32)), torch.from_numpy(status)
    sweeps, change = torch.from_numpy(np.empty(batch, INT32)), torch.from_numpy(changes)
    tensors = logits, label, marginals, log_evidence, possible, sweeps, change
    addresses = [tensor.data_ptr() for tensor in tensors]
    with flushed():
        left = kernel(*addresses, NEVER, batch, *numbers, LARGEST_LOGIT, *arguments, work())
    if left:
        return None
    status.fill(True)  # the same memory: now it says which rows are possible
    return marginals, log_evidence, possible, sweeps, change, torch.from_numpy(changes < limit)


@inlined
def rows_at(addresses, shape, like):
    """Logits of a shape [batch, n, K], labels and results at their addresses, and what tells to stop.

    like: a number of the type of the logits.
    """
    batch, size = shape[0], shape[0] * shape[1] * shape[2]
    results = PropagationResults(
        numbers_at(addresses[2], size, like).reshape(shape),
        numbers_at(addresses[3], batch, like),
        numbers_at(addresses[4], batch, np.uint8(0)),
        numbers_at(addresses[5], batch, np.int32(0)),
        numbers_at(addresses[6], batch, like),
    )
    logits = numbers_at(addresses[0], size, like).reshape(shape)
    return logits, numbers_at(addresses[1], batch, np.int64(0)), results, numbers_at(addresses[7], 1, np.uint8(0))


@inlined
def any_larger(addresses, shape, largest):
    """Whether a finite one of the logits lies beyond +-largest, which has their type; infinity: nobody asks."""
    numbers = numbers_at(addresses[0], shape[0] * shape[1] * shape[2], largest)
    return largest < np.inf and any_beyond(numbers, largest) > 0
