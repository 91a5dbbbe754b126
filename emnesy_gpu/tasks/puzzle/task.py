"""The record of the task: visual puzzles."""

from __future__ import annotations

from typing import Any

from emnesy_gpu.tasks.puzzle.command import puzzle, runs
from emnesy_gpu.tasks.puzzle.kinds import KINDS
from emnesy_gpu.tasks.puzzle.settings import PuzzleSettings, recipe
from emnesy_gpu.tasks.task import Origin, QuickProtocol, Task, TaskProtocol

KIND = next(iter(KINDS))
"""The kind of the protocol, which the command takes by default."""


def _recipe(size: int, augment: bool) -> dict[str, Any]:
    return recipe(KIND, size, "mnist")


PROTOCOL = TaskProtocol(
    methods={5: ("bp", "supervised")},
    data="mnist",
    batches=(5, "bp", ()),
    minutes={(5, True): 0.5},
    quick=QuickProtocol(5, 2, ("bp", "supervised")),
)

PUZZLE = Task(
    name="puzzle",
    title=lambda size: f"{KIND} {size}x{size}",
    headline="digit_accuracy",
    metric="Accuracy: test images whose digit is right by argmax; boards: test boards whose digits have the right "
    "clues; solved: test boards of which every cell is right, given the net and the clues.",
    readings={"board_accuracy": "boards", "solved_accuracy": "solved"},
    origin=Origin("boards", usual="generated", noun="boards"),
    settings=PuzzleSettings,
    recipe=_recipe,
    runs=runs,
    command=puzzle,
    size_option="size",
    options=lambda size, seed, maps: {"size": size, "seed": seed},
    default_method=lambda size: "bp",
    protocol=PROTOCOL,
    recorded=("data", "boards"),
)
