"""The settings of a training run on visual Sudoku, and good defaults for both sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emnesy_gpu.tasks.core.settings import RunSettings


@dataclass(frozen=True)
class SudokuSettings(RunSettings):
    """The settings of a run on visual Sudoku."""

    size: int
    split: int
    data: str
    boards: str
    """Where the boards are from: "regenerated" or "original"."""
    epochs: int
    batch: int
    """Boards per batch."""
    lr: float
    """Peak of the one-cycle schedule."""
    final_lr: float = 0.1
    """Share of the peak at the last step."""
    weight_decay: float = 1e-3
    warm_up: float = 0.2
    """Share of the steps before the peak."""
    sharpening: float = 1.0
    """Power of the prior in the first E-steps, falling to 1 over ``sharpened_epochs``."""
    sharpened_epochs: int = 0
    sweeps: int = 4
    """Sweeps of belief propagation in the E-step."""
    engine: str | None = None
    factors: str = "all_different"
    hard: bool = False
    m_steps: int = 1
    with_invalid: bool = False
    augment: bool = True
    views: int = 0
    restarts: int = 1
    trial: bool = False
    """Whether this is a short run to choose a start from, without evaluation."""
    seed: int = 0
    device: str = "cpu"
    threads: int = 1


def recipe(size: int, data: str) -> dict[str, Any]:
    """Return epochs, batch, schedule and restarts for a size of boards.

    A board of size 9 says so little at first that the net needs many small steps and a sharpened prior to leave the
    uniform belief. A board of size 4 says enough, but a start in about twelve ends in a local optimum, which two trials
    tell apart by their evidence. For MNIST all this was chosen on split 11, which is not scored, and the epochs so that
    a run takes at most a minute (size 4) or two (size 9) of one CPU thread.
    """
    if data == "digits":
        return {"epochs": 60, "batch": 2, "lr": 4e-3, "sharpening": 3.0, "sharpened_epochs": 10}
    if size == 4:
        return {"epochs": 200, "batch": 10, "lr": 4e-3, "restarts": 2}
    return {"epochs": 100, "batch": 5, "lr": 4e-3, "sharpening": 3.0, "sharpened_epochs": 8}
