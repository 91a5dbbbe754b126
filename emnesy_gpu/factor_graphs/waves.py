"""Updates that can be made at once: a serial schedule as waves of factors that share no variable."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDEST = 256
"""Updates of a wave, at most: threads of a block that a processor always has room for."""

NO_FACTOR = -1


class Waves(NamedTuple):
    """Rows of updates of one kind, which no order among them changes; each row after those before it."""

    factors: NDArray[np.int32]  # [W, T], NO_FACTOR behind the last
    sizes: NDArray[np.int32]  # [W, N]: the largest of each number that its factors have


def width_of(level: NDArray[np.int64], kind: NDArray[np.int64]) -> int:
    """A power of two about as large as the updates of a level and kind are many on average."""
    groups = max(1, len(np.unique(np.stack([level, kind], 1), axis=0)))
    return min(WIDEST, 1 << (max(1, round(len(level) / groups)) - 1).bit_length())


def make_waves(order: NDArray[np.int64], level: NDArray[np.int64], numbers: NDArray[np.int64], width: int) -> Waves:
    """order: [U], the factors of the updates. numbers: [F, N] of each factor, the first its kind."""
    rows = list[NDArray[np.int64]]()
    keys = np.stack([level, numbers[order, 0]], 1)
    for key in np.unique(keys, axis=0):
        together = order[(keys == key).all(1)]
        rows += [together[start : start + width] for start in range(0, len(together), width)]
    factors = np.full((len(rows), width), NO_FACTOR, np.int32)
    sizes = np.zeros((len(rows), numbers.shape[1]), np.int32)
    for row, members in enumerate(rows):
        factors[row, : len(members)] = members
        sizes[row] = numbers[members].max(0)
    return Waves(factors, sizes)
