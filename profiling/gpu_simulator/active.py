"""Which lanes take part in an instruction."""

from __future__ import annotations

from functools import cached_property

import numpy as np

WARP = 32


class ActiveSet:
    """The lanes that take part in an instruction; `mask` is None when all of them do."""

    def __init__(self, n_lanes: int, mask: np.ndarray | None = None) -> None:
        self.n_lanes = n_lanes
        self.mask = None if mask is None or mask.all() else mask

    @cached_property
    def count(self) -> int:
        return self.n_lanes if self.mask is None else int(np.count_nonzero(self.mask))

    @cached_property
    def n_warps(self) -> int:
        return self.n_lanes // WARP if self.mask is None else int(self.by_warp().any(axis=1).sum())

    @cached_property
    def indices(self) -> np.ndarray:
        return np.arange(self.n_lanes) if self.mask is None else np.nonzero(self.mask)[0]

    def as_mask(self) -> np.ndarray:
        return np.ones(self.n_lanes, bool) if self.mask is None else self.mask

    def by_warp(self) -> np.ndarray:
        return self.as_mask().reshape(-1, WARP)

    def pick(self, values: np.ndarray) -> np.ndarray:
        """The values of the active lanes, in lane order."""
        if values.shape != (self.n_lanes,):
            return np.broadcast_to(values, (self.count,))
        return values if self.mask is None else values[self.mask]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `pick`: values back in their lanes, zero elsewhere."""
        if self.mask is None:
            return values
        lanes = np.zeros(self.n_lanes, values.dtype)
        lanes[self.mask] = values
        return lanes

    def where(self, condition: np.ndarray) -> ActiveSet:
        if self.mask is None:
            return ActiveSet(self.n_lanes, np.broadcast_to(condition, (self.n_lanes,)))
        return ActiveSet(self.n_lanes, self.mask & condition)

    def without(self, other: ActiveSet) -> ActiveSet:
        return ActiveSet(self.n_lanes, self.as_mask() & ~other.as_mask())

    def union(self, other: ActiveSet) -> ActiveSet:
        if self.mask is None or other.mask is None:
            return self if self.mask is None else other
        return ActiveSet(self.n_lanes, self.mask | other.mask)
