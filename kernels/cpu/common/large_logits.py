"""Whether logits hold numbers that count as others, in one pass at the speed of memory."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

NANOSECONDS_PER_LOGIT = 0.06


def any_large(logits: Tensor) -> bool:
    """Whether a finite one of contiguous float32 or float64 logits lies beyond +-LARGEST_LOGIT."""
    numbers = logits.detach().view(-1).numpy()
    largest = numbers.dtype.type(LARGEST_LOGIT)
    found: list[int] = []
    for_rows(
        lambda first, last: found.append(_any_beyond(numbers[first:last], largest)),
        len(numbers),
        1,
        NANOSECONDS_PER_LOGIT,
    )
    return any(found)


@kernel
def _any_beyond(numbers, largest):
    # As integers: a loop over truth values is not vectorised.
    found = np.int32(0)
    for i in range(len(numbers)):
        size = abs(numbers[i])
        found |= np.int32(size > largest) & np.int32(size < np.inf)
    return found
