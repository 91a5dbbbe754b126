"""Reduction of a loss per row to one number."""

from __future__ import annotations

from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


def reduce(per_row: Tensor, reduction: str) -> Tensor:
    """Reduce losses [batch] to their "mean" (0 for an empty batch) or "sum", or return them as they are ("none")."""
    if reduction == "mean":
        return per_row.sum() / max(len(per_row), 1)
    if reduction == "sum":
        return per_row.sum()
    if reduction == "none":
        return per_row
    raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
