"""How a loss per row becomes one number."""

from __future__ import annotations

from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


def reduce(per_row: Tensor, reduction: str) -> Tensor:
    """The mean (0 for an empty batch), the sum, or the rows themselves."""
    if reduction == "mean":
        return per_row.sum() / max(len(per_row), 1)
    if reduction == "sum":
        return per_row.sum()
    if reduction == "none":
        return per_row
    raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
