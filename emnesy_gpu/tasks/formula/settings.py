"""The settings of a training run on formulas, and good defaults for every length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emnesy_gpu.tasks.mnist import settings

EPOCHS = 12
"""Passes over MNIST."""


@dataclass(frozen=True, kw_only=True)
class FormulaSettings(settings.RowSettings):
    """The settings of a run on formulas."""

    symbols: int
    mixed: bool = False
    """Whether shorter formulas are among them."""


def recipe(symbols: int, data: str) -> dict[str, Any]:
    """Return epochs, batch and schedule for a length of formulas."""
    return settings.recipe(symbols, data, EPOCHS)
