"""Constants on a device, which are copied there once: later calls do not wait for it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=256)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values as a tensor [len(values)]. All calls get the same one: do not write to it."""
    return torch.tensor(values, dtype=dtype, device=device)
