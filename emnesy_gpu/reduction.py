"""Reduction of a loss per row to one number, and what becomes of rows whose label is impossible."""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")

IMPOSSIBLE_ROWS = ("prior", "skip", "inf", "raise")
"""What a loss does with rows whose label is impossible: see ``em.em_loss``."""


def reduce(per_row: Tensor, reduction: str) -> Tensor:
    """Reduce losses [batch] to their "mean" (0 for an empty batch) or "sum", or return them as they are ("none")."""
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if reduction == "mean":
        return per_row.mean() if per_row.numel() > 0 else per_row.sum()
    if reduction == "sum":
        return per_row.sum()
    return per_row


def reduce_possible(per_row: Tensor, possible: Tensor, reduction: str, impossible: str) -> Tensor:
    """Reduce losses [batch] whose impossible rows have a gradient of 0; "prior" leaves their values as they are.

    "skip" leaves these rows out: a value of 0, and a mean over the others (0 where there are none). "inf" makes their
    value +inf. "raise" raises ValueError for the first of them, and synchronises a GPU.
    """
    if not isinstance(impossible, str) or impossible not in IMPOSSIBLE_ROWS:
        raise ValueError(f"impossible must be one of {', '.join(IMPOSSIBLE_ROWS)}, got {impossible!r}")
    if impossible == "raise":
        _raise_for_impossible(possible)
    elif impossible == "inf":
        per_row = per_row.masked_fill(~possible, torch.inf)
    elif impossible == "skip":
        per_row = per_row.masked_fill(~possible, 0.0)
        if reduction == "mean":
            return per_row.sum() / possible.sum().clamp_min(1)
    return reduce(per_row, reduction)


def _raise_for_impossible(possible: Tensor) -> None:
    if not bool(possible.all()):
        rows = (~possible).nonzero().tolist()
        first = ", ".join(map(str, rows[0]))
        raise ValueError(f"the label of row {first} is impossible, {len(rows)} of {possible.numel()} rows in all")
