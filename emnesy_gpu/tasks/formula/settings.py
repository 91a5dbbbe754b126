"""The settings of a training run on formulas, and good defaults for every length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from emnesy_gpu.tasks.files.settings import OneOf
from emnesy_gpu.tasks.mnist import settings

EPOCHS = 12
"""Passes over MNIST."""

SYMBOLS = (3, 5, 7)
"""Lengths of formulas. More than 7 symbols have too large an automaton."""


@dataclass(frozen=True, kw_only=True)
class FormulaSettings(settings.RowSettings):
    """The settings of a run on formulas."""

    symbols: Annotated[int, OneOf(*SYMBOLS)]
    mixed: bool = False
    """Whether shorter formulas are among them."""


def recipe(symbols: int, data: str) -> dict[str, Any]:
    """Return epochs, batch and schedule for a length of formulas."""
    return settings.recipe(symbols, data, EPOCHS)
