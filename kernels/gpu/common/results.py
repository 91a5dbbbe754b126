"""Allocates results, uninitialised, for launch functions of exact inference."""

from __future__ import annotations

import torch


def float_dtype(logits: torch.Tensor) -> torch.dtype:
    """The type of floating-point results: that of the logits, float32 at least."""
    return torch.promote_types(logits.dtype, torch.float32)


def row_results(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A log probability and a status code (uint8) for every row: [batch] each."""
    batch = len(logits)
    return logits.new_empty(batch, dtype=float_dtype(logits)), logits.new_empty(batch, dtype=torch.uint8)
