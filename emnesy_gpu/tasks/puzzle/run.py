"""A training run on puzzles, with its words, figures and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from emnesy_gpu.tasks.core.progress import PlainReporter
from emnesy_gpu.tasks.mnist.row_runner import RowRunner, percentages
from emnesy_gpu.tasks.puzzle.boards import ORIGIN
from emnesy_gpu.tasks.puzzle.pictures import BoardView, save_boards
from emnesy_gpu.tasks.puzzle.settings import PuzzleSettings, recipe
from emnesy_gpu.tasks.puzzle.training import PuzzleTraining

SHOWN = 3
"""Test boards in the picture: those whose digits the net reads worst."""


class PuzzleRunner(RowRunner):
    """Runs a training on puzzles."""

    command = "puzzle"
    accuracies: ClassVar = {"solved": "solved_accuracy", "boards": "board_accuracy", "digits": "digit_accuracy"}
    settings_type, training_type = PuzzleSettings, PuzzleTraining
    chosen_by_recipe = ("size", *RowRunner.chosen_by_recipe)
    training: PuzzleTraining

    @classmethod
    def recipe(cls, options: Mapping[str, Any], data: str) -> dict[str, Any]:
        """Return size, epochs, batch and schedule for a kind of puzzle."""
        return recipe(options["kind"], options["size"], data)

    def title(self) -> str:
        """Return the kind and the size of the puzzles."""
        settings = self.training.settings
        return f"{settings.kind} {settings.size}x{settings.size}, {ORIGIN}"

    def identity(self) -> dict[str, Any]:
        """Return kind, size and origin of the puzzles for the summary."""
        settings = self.training.settings
        return {"kind": settings.kind, "size": settings.size, "boards": ORIGIN}

    def verdicts(self, summary: dict[str, Any]) -> list[str]:
        """Return the accuracies in words."""
        solved, boards, digits = percentages(summary, *self.accuracies.values())
        return [
            f"solved {solved} of {summary['test_boards']} {ORIGIN} boards  read alone: boards {boards}  "
            f"digits {digits} of {summary['test_images']}"
        ]

    def conclude(self, report: PlainReporter) -> None:
        """Report and write the accuracies, and draw test boards."""
        if self.directory is not None:
            save_boards(self.directory.path / "boards.png", self.training.puzzle, self.examples(), self.title())
        super().conclude(report)

    def examples(self) -> list[BoardView]:
        """Return the test boards with the most digits that are read wrong."""
        training, test = self.training, self.training.test
        logits = training.read(test.images.pixels)[test.index]
        wrong = (logits.argmax(-1) != test.classes).sum(1)
        rows = wrong.argsort(descending=True, stable=True)[:SHOWN]
        posterior = training.solve(logits[rows], training.problem.label(test.classes[rows])).argmax(-1)
        found = zip(test.index[rows], test.classes[rows], logits[rows].argmax(-1), posterior, strict=True)
        return [BoardView(test.images.pixels[index], *values) for index, *values in found]


start, resume = PuzzleRunner.start, PuzzleRunner.resume
