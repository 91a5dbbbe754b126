"""Whether logits hold numbers that count as others, in one pass at the speed of memory, and copies without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.parallel import for_rows, is_one_range
from emnesy_gpu.kernels.cpu.common.pointers import address_of, numbers_at
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

NANOSECONDS_PER_LOGIT = 0.06

LARGEST: dict[torch.dtype, Any] = {torch.float32: np.float32(LARGEST_LOGIT), torch.float64: np.float64(LARGEST_LOGIT)}


def any_large(logits: Tensor) -> bool:
    """Whether a finite one of contiguous float32 or float64 logits lies beyond +-LARGEST_LOGIT."""
    address, size, largest = logits.data_ptr(), logits.numel(), LARGEST[logits.dtype]
    if is_one_range(size, NANOSECONDS_PER_LOGIT):
        return _any_beyond(address, size, largest) > 0
    found: list[int] = []
    for_rows(
        lambda first, last: found.append(_any_beyond(address + first * largest.nbytes, last - first, largest)),
        size,
        1,
        NANOSECONDS_PER_LOGIT,
    )
    return any(found)


def bounded_as(dtype: DTypeLike, logits: np.ndarray) -> np.ndarray:
    """Contiguous float32 or float64 logits in a dtype, with finite ones beyond +-LARGEST_LOGIT as that."""
    if _any_beyond(address_of(logits), logits.size, logits.dtype.type(LARGEST_LOGIT)):
        logits = np.where(np.isinf(logits), logits, logits.clip(-LARGEST_LOGIT, LARGEST_LOGIT))
    return logits.astype(dtype, copy=False)


@kernel
def _any_beyond(address, size, largest):
    return any_beyond(numbers_at(address, size, largest), largest)


@lane_function
def any_beyond(numbers, largest):
    """Whether a finite number lies beyond +-largest, as an integer."""
    # As integers: a loop over truth values is not vectorised.
    found = np.int32(0)
    for i in range(len(numbers)):
        magnitude = abs(numbers[i])
        found |= np.int32(magnitude > largest) & np.int32(magnitude < np.inf)
    return found
