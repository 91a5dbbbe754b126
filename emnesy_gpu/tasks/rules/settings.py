"""The settings of a training run on a rule, and good defaults for every rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from emnesy_gpu.tasks.files.settings import OneOf, Positive
from emnesy_gpu.tasks.mnist import settings
from emnesy_gpu.tasks.rules.automata import KNOWN_RULES

EPOCHS = 12
"""Passes over MNIST."""


@dataclass(frozen=True, kw_only=True)
class RulesSettings(settings.RowSettings):
    """The settings of a run on a rule."""

    rule: Annotated[str, OneOf(*KNOWN_RULES)]
    symbols: Positive


def recipe(rule: str, symbols: int | None, data: str) -> dict[str, Any]:
    """Return symbols, epochs, batch and schedule for a rule."""
    symbols = KNOWN_RULES[rule].symbols if symbols is None else symbols
    return {"symbols": symbols, **settings.recipe(symbols, data, EPOCHS)}
