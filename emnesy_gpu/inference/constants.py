"""Constants on a device, which are copied there once: later calls do not wait for it."""

from __future__ import annotations

import torch
from torch import Tensor

_made: dict[tuple[tuple[float, ...], torch.dtype, torch.device], Tensor] = {}


def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values as a tensor [len(values)]. All calls get the same one: do not write to it."""
    if torch.compiler.is_compiling():
        return torch.tensor(values, dtype=dtype, device=device)  # a part of the graph
    key = values, dtype, device
    if key not in _made:
        made = torch.tensor(values, dtype=dtype, device=device)
        if type(made) is not Tensor:
            return made  # a stand-in without values, from a tracer
        _made[key] = made
    return _made[key]
