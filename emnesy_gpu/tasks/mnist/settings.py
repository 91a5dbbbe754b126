"""What the settings of runs on rows of images have in common, and the recipe that they begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emnesy_gpu.tasks.core.settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class RowSettings(RunSettings):
    """The settings of a run on rows of images; a task adds the size of its rows."""

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


def recipe(images_per_row: int, data: str, epochs: int) -> dict[str, Any]:
    """Return epochs, batch and peak rate; ``epochs`` are those on MNIST.

    A batch holds about 240 images, and at least one row. The digits of scikit-learn are fewer: smaller batches and more
    epochs.
    """
    batch = max(1, IMAGES_PER_BATCH // images_per_row)
    if data == "digits":
        return {"epochs": 60, "batch": max(1, batch // 4), "lr": 4e-3}
    return {"epochs": epochs, "batch": batch, "lr": 5e-3}
