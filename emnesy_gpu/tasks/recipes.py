"""The settings of a training run on addition, and good defaults for every number of digits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import emnesy_gpu as em


@dataclass(frozen=True)
class Settings:
    """Everything that determines the bits of a run on one machine."""

    digits: int
    data: str
    epochs: int
    batch: int
    """Sums per batch."""
    lr: float
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-3
    warm_up: float = 0.2
    """Share of the steps before the peak."""
    engine: str | None = None
    hard: bool = False
    m_steps: int = 1
    augment: bool = True
    seed: int = 0
    holdout: int = 0
    device: str = "cpu"
    threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Raises ValueError for a missing or an unknown setting."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"settings must be {[field.name for field in fields(cls)]}: {error}") from error


ENGINES = {"exact": em.Exact, "map": em.MAP}


def recipe(digits: int, augment: bool, data: str) -> dict[str, Any]:
    """Epochs, batch (sums) and lr for a number of digits, chosen on held-out training images."""
    if data == "digits":
        return {"epochs": 60, "batch": max(1, 64 // (2 * digits)), "lr": 4e-3}
    return {"epochs": 20, "batch": max(1, 240 // (2 * digits)), "lr": 5e-3}
