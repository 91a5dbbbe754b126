"""What a problem holds as checkpoints hold it: ``torch.load(weights_only=True)`` reads tensors, but no NumPy arrays."""

from __future__ import annotations

import copy
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

KINDS = "biuf"
"""Kinds of dtypes that tensors have: bools, integers and floats."""


class StoredArray:
    """An array that is pickled as a tensor, and comes back as an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, tuple[Tensor]]:
        return array_of, (torch.from_numpy(self.array.copy()),)


def array_of(tensor: Tensor) -> np.ndarray:
    """The array that a tensor stands for."""
    return tensor.numpy()


def stored(value: Any) -> Any:
    """The same nest of dicts, lists, tuples and dataclasses with arrays that checkpoints take, and plain numbers."""
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        return StoredArray(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: stored(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(stored, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(stored, value))
    if is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        vars(changed).update(stored(vars(value)))
        return changed
    return value


torch.serialization.add_safe_globals([array_of])
