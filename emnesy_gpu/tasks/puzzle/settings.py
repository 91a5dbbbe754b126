"""The settings of a training run on puzzles, and good defaults for every kind and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from emnesy_gpu.tasks.files.settings import OneOf, Positive
from emnesy_gpu.tasks.mnist import settings
from emnesy_gpu.tasks.puzzle.kinds import KINDS, make

EPOCHS = 12
"""Passes over MNIST."""

SWEEPS = 5
"""Sweeps of belief propagation in the E-step."""


@dataclass(frozen=True, kw_only=True)
class PuzzleSettings(settings.RowSettings):
    """The settings of a run on puzzles."""

    kind: Annotated[str, OneOf(*KINDS)]
    size: Positive
    sweeps: Positive = SWEEPS


def recipe(kind: str, size: int | None, data: str) -> dict[str, Any]:
    """Return size, epochs, batch and schedule for a kind of puzzle."""
    size = KINDS[kind].sizes[0] if size is None else size
    return {"size": size, **settings.recipe(len(make(kind, size).cells), data, EPOCHS)}
