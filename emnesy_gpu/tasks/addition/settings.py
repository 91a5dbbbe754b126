"""The settings of a training run on addition, and good defaults for every number of digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emnesy_gpu.tasks.core.settings import RunSettings


@dataclass(frozen=True)
class AdditionSettings(RunSettings):
    """The settings of a run on addition."""

    digits: int
    data: str
    epochs: int
    batch: int
    """Sums per batch."""
    lr: float
    """Peak of the one-cycle schedule."""
    final_lr: float = 0.3
    """Share of the peak at the last step."""
    weight_decay: float = 1e-3
    warm_up: float = 0.2
    """Share of the steps before the peak."""
    engine: str | None = None
    hard: bool = False
    m_steps: int = 1
    augment: bool = True
    views: int = 0
    """Warped copies of every test image for a second reading after the last epoch, beside the plain one."""
    seed: int = 0
    holdout: int = 0
    device: str = "cpu"
    threads: int = 1


IMAGES_PER_BATCH, VIEWS = 240, 16


def recipe(digits: int, augment: bool, data: str) -> dict[str, Any]:
    """Return epochs, batch and schedule for a number of digits.

    A batch holds about 240 images, and at least one sum. The rate ends well above zero, as the running average of the
    weights does the rest better. Without augmentation the net soon learns the images by heart: fewer epochs and more
    weight decay. With it, the mean of several warped views is a better reading than the image alone. For MNIST all this
    was chosen on held-out training images, and the epochs so that a run on one CPU thread takes at most five minutes.
    """
    batch = max(1, IMAGES_PER_BATCH // (2 * digits))
    if data == "digits":
        return {"epochs": 60, "batch": max(1, batch // 4), "lr": 4e-3}
    if augment:
        epochs = 32 if digits <= 8 else 26 if digits <= 50 else 48
        return {"epochs": epochs, "batch": batch, "lr": 5e-3 if digits <= 50 else 4e-3, "views": VIEWS}
    return {"epochs": 12, "batch": batch, "lr": 4e-3, "weight_decay": 5e-2}
