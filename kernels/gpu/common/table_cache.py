"""Keeps the tables that launches make from the tables of a problem, as long as the problem keeps its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")
_made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def made_once(source: torch.Tensor, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives for a tensor that nobody writes to; it must not hold that tensor."""
    tables: dict[Hashable, T] = _made.setdefault(source, {})
    if key not in tables:
        tables[key] = make()
    return tables[key]
