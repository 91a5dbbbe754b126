"""The settings of a training run on Warcraft maps, and good defaults for every size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from emnesy_gpu.tasks.core.sampling_engines import SAMPLERS
from emnesy_gpu.tasks.files.settings import (
    AboveZero,
    AtLeastZero,
    Count,
    Device,
    OneOf,
    Positive,
    Range,
    RunSettings,
    Seed,
    Share,
    Threads,
)
from emnesy_gpu.tasks.warcraft.path_losses import PATH_LOSSES

SIZES = (12, 18, 24, 30)
"""Cells along a side of the published maps."""

CHOICES = ("auto", "files", "synthetic")
"""Where maps can be from."""

NETS = ("tile", "context", "resnet18")
"""The nets that read pictures of maps."""

LARGEST_WINDOW = 40


@dataclass(frozen=True)
class WarcraftSettings(RunSettings):
    """The settings of a run on Warcraft maps."""

    size: Annotated[int, OneOf(*SIZES)]
    data: Annotated[str, OneOf(*CHOICES)]
    origin: Annotated[str, OneOf("original", "unverified", "synthetic")]
    """What the maps are: "original", "unverified" or "synthetic"."""
    maps: Positive
    """Training maps."""
    epochs: Positive
    batch: Positive
    """Maps or windows per batch."""
    lr: AboveZero
    """Peak of the one-cycle schedule."""
    net: Annotated[str, OneOf(*NETS)] = "tile"
    final_lr: AboveZero = 0.02
    """Share of the peak at the last step."""
    weight_decay: AtLeastZero = 1e-3
    warm_up: Share = 0.1
    """Share of the steps before the peak."""
    window: Annotated[int, Range(0, LARGEST_WINDOW)] = 0
    """Cells along a side of the windows to train on; 0 trains on whole maps."""
    windows: Positive = 1
    """Windows per map and epoch."""
    engine: Annotated[str, OneOf(*SAMPLERS, *PATH_LOSSES)] = "abc"
    hard: bool = False
    samples: Positive = 256
    target_ess: AboveZero = 8.0
    rao_blackwell_epochs: Count = 0
    """Epochs at the start with Rao-Blackwellised samples."""
    rao_blackwell_samples: Positive = 32
    rao_blackwell_ess: AboveZero = 4.0
    floor: Share = 0.0
    """Share of the uniform distribution in the prior at first; falls to 0 over the Rao-Blackwellised epochs."""
    supervised: bool = False
    """Train on the true classes in place of an E-step, for comparison."""
    m_steps: Positive = 1
    restarts: Positive = 1
    """Most seeds to try."""
    trial_epochs: Positive = 1
    """Epochs after which a start with merged classes is given up."""
    seed: Seed = 0
    device: Device = "cpu"
    threads: Threads = 1


def recipe(size: int) -> dict[str, Any]:
    """Return epochs, batch, schedule, E-step and restarts for a size of maps.

    Chosen on synthetic validation maps. Rao-Blackwellised samples find the classes, plain ones are enough once they are
    found. Without a floor most seeds merge classes. Larger maps say too little as a whole: windows of them say as much
    as small maps.
    """
    values: dict[str, Any] = {"lr": 4e-3, "floor": 0.02, "restarts": 3}
    if size == 12:
        return {**values, "epochs": 20, "batch": 20, "rao_blackwell_epochs": 10, "trial_epochs": 8}
    return {
        **values,
        "epochs": 24,
        "batch": 10,
        "window": 16,
        "windows": 2,
        "rao_blackwell_epochs": 10,
        "trial_epochs": 11,
    }
