"""The settings of a training run on Warcraft maps, and good defaults for every size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emnesy_gpu.tasks.core.settings import RunSettings


@dataclass(frozen=True)
class WarcraftSettings(RunSettings):
    """The settings of a run on Warcraft maps."""

    size: int
    data: str
    origin: str
    """What the maps are: "original", "unverified" or "synthetic"."""
    maps: int
    """Training maps."""
    epochs: int
    batch: int
    """Maps or windows per batch."""
    lr: float
    """Peak of the one-cycle schedule."""
    net: str = "tile"
    final_lr: float = 0.02
    """Share of the peak at the last step."""
    weight_decay: float = 1e-3
    warm_up: float = 0.1
    """Share of the steps before the peak."""
    window: int = 0
    """Cells along a side of the windows to train on; 0 trains on whole maps."""
    windows: int = 1
    """Windows per map and epoch."""
    engine: str = "abc"
    hard: bool = False
    samples: int = 256
    target_ess: float = 8.0
    rao_blackwell_epochs: int = 0
    """Epochs at the start with Rao-Blackwellised samples."""
    rao_blackwell_samples: int = 32
    rao_blackwell_ess: float = 4.0
    floor: float = 0.0
    """Share of the uniform distribution in the prior at first; falls to 0 over the Rao-Blackwellised epochs."""
    supervised: bool = False
    """Train on the true classes in place of an E-step, for comparison."""
    m_steps: int = 1
    restarts: int = 1
    """Most seeds to try."""
    trial_epochs: int = 1
    """Epochs after which a start with merged classes is given up."""
    seed: int = 0
    device: str = "cpu"
    threads: int = 1


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
