"""The settings of a training run on a rule, and good defaults for every rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emnesy_gpu.tasks.core.settings import RunSettings
from emnesy_gpu.tasks.rules.automata import KNOWN_RULES


@dataclass(frozen=True)
class RulesSettings(RunSettings):
    """The settings of a run on a rule."""

    rule: str
    symbols: int
    data: str
    epochs: int
    batch: int
    """Rows per batch."""
    lr: float
    """Peak of the one-cycle schedule."""
    final_lr: float = 0.3
    """Share of the peak at the last step."""
    weight_decay: float = 1e-3
    warm_up: float = 0.2
    """Share of the steps before the peak."""
    engine: str | None = None
    hard: bool = False
    supervised: bool = False
    m_steps: int = 1
    augment: bool = True
    seed: int = 0
    holdout: int = 0
    device: str = "cpu"
    threads: int = 1


IMAGES_PER_BATCH = 240


def recipe(rule: str, symbols: int | None, data: str) -> dict[str, Any]:
    """Return symbols, epochs, batch and schedule for a rule.

    A batch holds about 240 images, and at least one row, as in the recipe of addition.
    """
    symbols = KNOWN_RULES[rule].symbols if symbols is None else symbols
    batch = max(1, IMAGES_PER_BATCH // symbols)
    if data == "digits":
        return {"symbols": symbols, "epochs": 60, "batch": max(1, batch // 4), "lr": 4e-3}
    return {"symbols": symbols, "epochs": 12, "batch": batch, "lr": 5e-3}
