"""What helps where logits or labels have another shape or type than a problem takes, for errors."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

LABELS = ": em.as_label converts labels"


class Shapes(Protocol):
    """What a problem says of its logits and labels: see ``em.Problem``."""

    latent_shape: tuple[int, ...]
    cardinality: int
    label_shape: tuple[int, ...]
    conversion: str


def for_logits(problem: Shapes, logits: Tensor) -> str:
    """For logits that are not [batch, *latent_shape, cardinality]; empty where nothing is known to help."""
    shape, symbols, n = tuple(logits.shape), problem.latent_shape, problem.cardinality
    row = (*symbols, n)
    if n == 2 and shape[-len(symbols) :] == symbols:
        return ": em.binary_logits makes them of the logits of a sigmoid"
    if shape == row:
        return ": logits[None] is a batch of one row"
    if shape[1:] == (n, *symbols):
        return ": logits.movedim(1, -1) has the values on the last axis"
    if len(shape) == 2 and shape[1] == math.prod(row):
        return f": logits.unflatten(1, {row}) takes them apart"
    return ""


def for_label(problem: Shapes, label: Tensor) -> str:
    """For a label that is not [batch, *label_shape]; empty where nothing is known to help."""
    shape, entries = tuple(label.shape), problem.label_shape
    if len(shape) == 1 and problem.conversion:
        return f": {problem.conversion}"
    if shape == entries:
        return ": label[None] is a batch of one row"
    if shape[1:] == problem.latent_shape:
        return ": problem.label(z) gives the label of symbols z"
    if shape[1:] == (*entries, 1):
        return ": label.squeeze(-1) has it"
    if len(shape) > 2 and shape[2:] == entries:
        return ": em.posterior_of_labels takes several labels of a row"
    return ""


def for_label_type(dtype: torch.dtype) -> str:
    """For a label of another type than the integers that problems take."""
    return ": label.long() has integers" if dtype.is_floating_point else LABELS
