"""Rows and their results at addresses: as arrays they would cost a call of a few rows more than a sweep does."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.pointers import address_of, numbers_at
from emnesy_gpu.kernels.cpu.common.row_driver import PropagationResults

Addresses = tuple[int, ...]
"""Of contiguous logits and labels, of the results in their order, and of what tells to stop."""

_going = np.zeros(1, np.uint8)
NEVER = address_of(_going)
"""In place of the address of what tells to stop."""


def addresses_of_tensors(*tensors: Tensor) -> Addresses:
    """Logits, labels and results, for a call that nobody stops."""
    return *[tensor.data_ptr() for tensor in tensors], NEVER


def addresses_of_arrays(
    logits: np.ndarray, label: np.ndarray, results: PropagationResults, options: Options
) -> Addresses:
    return tuple([address_of(array) for array in (logits, label, *results, options.stopped)])


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
