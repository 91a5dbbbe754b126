"""How an operator is registered, for CPU and CUDA tensors alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "emnesy_gpu"
_library = torch.library.Library(NAMESPACE, "DEF")
NAMES: list[str] = []
"""Every registered operator, without the namespace."""


def register(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Define an operator that takes the back end of its tensors' device when it is called."""
    name = schema.partition("(")[0]
    NAMES.append(name)
    _library.define(schema)
    for key in ("CPU", "CUDA"):
        _library.impl(name, implementation, key)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)


def result_dtype(logits: Tensor) -> torch.dtype:
    """float64 for float64 logits, float32 for every other dtype."""
    return torch.promote_types(logits.dtype, torch.float32)


def row_results(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialised (values like the logits, log evidence [batch], status [batch])."""
    dtype, batch = result_dtype(logits), logits.shape[0]
    return (
        logits.new_empty(logits.shape, dtype=dtype),
        logits.new_empty(batch, dtype=dtype),
        logits.new_empty(batch, dtype=torch.uint8),
    )


def map_results(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Uninitialised (assignment int64 [batch, *symbols], log joint [batch], status [batch], valid bool [batch])."""
    _, log_joint, status = row_results(logits)
    z = logits.new_empty(logits.shape[:-1], dtype=torch.int64)
    return z, log_joint, status, logits.new_empty(logits.shape[0], dtype=torch.bool)


def loopy_results(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Uninitialised (values like the logits, log evidence, status, sweeps int32, change), all but the first [batch]."""
    values, log_evidence, status = row_results(logits)
    return values, log_evidence, status, torch.empty_like(status, dtype=torch.int32), torch.empty_like(log_evidence)
