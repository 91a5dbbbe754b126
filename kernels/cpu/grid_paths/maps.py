"""Maps of a batch, and the type that the costs of their paths fit in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

NANOSECONDS_PER_CELL = 3.0


class Maps(NamedTuple):
    """The costs of the classes of cells, and the labels of a batch."""

    table: np.ndarray  # int32 [K]
    mask: np.ndarray  # uint8 [batch, H, W]: 1 on the path
    start: np.ndarray  # int64 [batch]: cells
    goal: np.ndarray  # int64 [batch]
    numbers: np.ndarray  # [1], of the type of distances: kernels are compiled for it


def maps_of(table: Tensor, mask: Tensor, start: Tensor, goal: Tensor) -> Maps:
    """Arrays of the tensors."""
    largest = int(table.max()) if table.numel() else 0
    numbers = np.zeros(1, distance_type(largest, mask.shape[1], mask.shape[2]))
    classes, label, starts, goals = (tensor.contiguous().numpy() for tensor in (table, mask, start, goal))
    return Maps(classes, label, starts, goals, numbers)


def distance_type(largest: int, height: int, width: int) -> type[np.unsignedinteger]:
    """uint16 where no path of interest costs more: a king's way anywhere has at most max(height, width) cells."""
    return np.uint16 if largest * (max(height, width) + 1) + 1 < np.iinfo(np.uint16).max else np.uint32
