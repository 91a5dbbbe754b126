"""EM training on visual puzzles: boards of handwritten digits, only their clues are known."""

from __future__ import annotations

from functools import partial

from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.mnist.rows import RowTraining
from emnesy_gpu.tasks.puzzle.boards import lay_out
from emnesy_gpu.tasks.puzzle.kinds import make
from emnesy_gpu.tasks.puzzle.problem import PuzzleProblem
from emnesy_gpu.tasks.puzzle.settings import PuzzleSettings

SOLVING = em.BeliefPropagation(iterations=50, tolerance=1e-3)
"""What solves test boards, given the net and the clues."""


class PuzzleTraining(RowTraining):
    """One run on puzzles that the seed generates, with images of the digits that they have."""

    unit = "board"

    def __init__(self, settings: PuzzleSettings, data: DataSet) -> None:
        self.puzzle = make(settings.kind, settings.size)
        problem = PuzzleProblem(self.puzzle)
        self.messages = em.BeliefPropagation(settings.sweeps)
        digits = data.of_classes(self.puzzle.digits)
        super().__init__(settings, problem, digits, Sampling(settings.seed), partial(lay_out, self.puzzle, problem))

    def evaluate(self) -> dict[str, float]:
        """Judge the test images.

        solved_accuracy: boards of which every cell is right by the posterior given the clues. board_accuracy: boards
        whose digits, every image read alone by argmax, have the right clues. digit_accuracy: images right, read alone.
        """
        images, true = self.test.images, self.test.classes
        logits = self.read(images.pixels)
        predicted = logits.argmax(-1)
        solved = self.solve(logits[self.test.index], self.problem.label(true)).argmax(-1) == true
        return {
            "solved_accuracy": float(solved.all(1).double().mean()),
            "board_accuracy": self.label_accuracy(predicted),
            "digit_accuracy": float((predicted == images.classes).double().mean()),
        }

    def solve(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the posterior of boards given their clues, [n, cells, cardinality]."""
        return em.posterior(self.problem, logits.float(), label, SOLVING).marginals
