"""Which updates of a serial schedule can be made at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def levels(scopes: Sequence[Sequence[int]], order: Sequence[int]) -> NDArray[np.int64]:
    """int64 [U]: an update's level is above those of all earlier updates that share a variable with it.

    So the levels one after the other give the same messages as the order does. scopes: the variables of each factor.
    """
    reached: dict[int, int] = {}
    found = np.empty(len(order), np.int64)
    for place, factor in enumerate(order):
        scope = scopes[factor]
        found[place] = level = 1 + max(reached.get(i, -1) for i in scope)
        for i in scope:
            reached[i] = level
    return found
