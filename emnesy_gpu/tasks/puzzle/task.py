"""The record of the task: visual puzzles."""

from __future__ import annotations

from emnesy_gpu.tasks.puzzle.command import puzzle, runs
from emnesy_gpu.tasks.puzzle.kinds import KINDS
from emnesy_gpu.tasks.puzzle.settings import PuzzleSettings, recipe
from emnesy_gpu.tasks.task import Origin, Task, TaskProtocol

KIND = next(iter(KINDS))
"""The kind of the protocol, which the command takes by default."""


PUZZLE = Task(
    name="puzzle",
    title=lambda size: f"{KIND} {size}x{size}",
    headline="digit_accuracy",
    metric="Accuracy: test images whose digit is right by argmax; boards: test boards whose digits have the right "
    "clues; solved: test boards of which every cell is right, given the net and the clues.",
    readings={"board_accuracy": "boards", "solved_accuracy": "solved"},
    origin=Origin("boards", usual="generated", noun="boards"),
    settings=PuzzleSettings,
    recipe=lambda size, augment: recipe(KIND, size, "mnist"),
    runs=runs,
    command=puzzle,
    size_option="size",
    options=lambda size, seed, maps: {"size": size, "seed": seed},
    default_method=lambda size: "bp",
    protocol=TaskProtocol.of_one_size(5, "bp", minutes=0.5),
    recorded=("data", "boards"),
)
