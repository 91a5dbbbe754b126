"""The settings of a training run on visual Sudoku, and good defaults for both sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from emnesy_gpu.tasks.core.engines import ENGINE_NAMES
from emnesy_gpu.tasks.core.loss_engines import OF_BOARDS
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
from emnesy_gpu.tasks.mnist.settings import NETS

SIZES = (4, 9)
"""Rows of a board."""

FACTORS = ("all_different", "pairwise")
"""Factors of belief propagation."""


@dataclass(frozen=True)
class SudokuSettings(RunSettings):
    """The settings of a run on visual Sudoku."""

    size: Annotated[int, OneOf(*SIZES)]
    split: Positive
    data: Annotated[str, OneOf(*CHOICES, "files")]
    boards: Annotated[str, OneOf("regenerated", "original")]
    """Where the boards are from: "regenerated" or "original"."""
    epochs: Positive
    batch: Positive
    """Boards per batch."""
    lr: AboveZero
    """Peak of the one-cycle schedule."""
    final_lr: AboveZero = 0.1
    """Share of the peak at the last step."""
    weight_decay: AtLeastZero = 1e-3
    warm_up: Share = 0.2
    """Share of the steps before the peak."""
    sharpening: AtLeastZero = 1.0
    """Power of the prior in the first E-steps, falling to 1 over ``sharpened_epochs``."""
    sharpened_epochs: Count = 0
    sweeps: Positive = 4
    """Sweeps of belief propagation in the E-step."""
    engine: Annotated[str, OneOf(*ENGINE_NAMES, *OF_BOARDS)] | None = None
    factors: Annotated[str, OneOf(*FACTORS)] = "all_different"
    hard: bool = False
    m_steps: Positive = 1
    with_invalid: bool = False
    net: Annotated[str, OneOf(*NETS)] = "lenet"
    augment: bool = True
    views: Count = 0
    restarts: Positive = 1
    trial: bool = False
    """Whether this is a short run to choose a start from, without evaluation."""
    seed: Seed = 0
    device: Device = "cpu"
    threads: Threads = 1


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
