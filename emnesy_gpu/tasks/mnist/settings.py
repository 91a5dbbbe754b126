"""What the settings of runs on rows of images have in common, and the recipe that they begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from emnesy_gpu.tasks.core.engines import ENGINE_NAMES
from emnesy_gpu.tasks.core.loss_engines import LOSSES
from emnesy_gpu.tasks.files.settings import (
    AboveZero,
    AtLeastZero,
    Count,
    Device,
    OneOf,
    Positive,
    RunSettings,
    Seed,
    Share,
    Threads,
)
from emnesy_gpu.tasks.mnist.choose import CHOICES

NETS = ("lenet", "deep")
"""The nets that read images, by the names of ``nets.BUILDERS``."""


@dataclass(frozen=True, kw_only=True)
class RowSettings(RunSettings):
    """The settings of a run on rows of images; a task adds the size of its rows."""

    data: Annotated[str, OneOf(*CHOICES)]
    epochs: Positive
    batch: Positive
    """Rows per batch."""
    lr: AboveZero
    """Peak of the one-cycle schedule."""
    final_lr: AboveZero = 0.3
    """Share of the peak at the last step."""
    weight_decay: AtLeastZero = 1e-3
    warm_up: Share = 0.2
    """Share of the steps before the peak."""
    engine: Annotated[str, OneOf(*ENGINE_NAMES, *LOSSES)] | None = None
    hard: bool = False
    supervised: bool = False
    m_steps: Positive = 1
    net: Annotated[str, OneOf(*NETS)] = "lenet"
    augment: bool = True
    seed: Seed = 0
    holdout: Count = 0
    device: Device = "cpu"
    threads: Threads = 1


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
