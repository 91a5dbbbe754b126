"""The settings of a training run on addition, and good defaults for every number of digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emnesy_gpu.tasks.files.settings import Count, Positive
from emnesy_gpu.tasks.mnist import settings

VIEWS = 16


@dataclass(frozen=True, kw_only=True)
class AdditionSettings(settings.RowSettings):
    """The settings of a run on addition."""

    digits: Positive
    views: Count = 0
    """Warped copies of every test image for a second reading after the last epoch, beside the plain one."""


def recipe(digits: int, augment: bool, data: str) -> dict[str, Any]:
    """Return epochs, batch and schedule for a number of digits.

    The rate ends well above zero, as the running average of the weights does the rest better. Without augmentation the
    net soon learns the images by heart: fewer epochs and more weight decay. With it, the mean of several warped views
    is a better reading than the image alone. For MNIST all this was chosen on held-out training images, and the epochs
    so that a run on one CPU thread takes at most five minutes.
    """
    values = settings.recipe(2 * digits, data, epochs=32 if digits <= 8 else 26 if digits <= 50 else 48)
    if data == "digits":
        return values
    if augment:
        return {**values, "lr": 5e-3 if digits <= 50 else 4e-3, "views": VIEWS}
    return {**values, "epochs": 12, "lr": 4e-3, "weight_decay": 5e-2}
