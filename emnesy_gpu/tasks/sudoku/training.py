"""EM training on visual Sudoku: boards of handwritten digits, only their validity is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import emnesy_gpu as em
from emnesy_gpu.tasks.core.distributed import Part
from emnesy_gpu.tasks.core.loss_engines import label_read_by
from emnesy_gpu.tasks.core.training import TestRows
from emnesy_gpu.tasks.mnist.training import ImageTraining
from emnesy_gpu.tasks.sudoku.boards import Boards, Split
from emnesy_gpu.tasks.sudoku.engines import Sharpened, engine_of
from emnesy_gpu.tasks.sudoku.metrics import auroc, best_threshold, matched_accuracy, threshold_accuracy
from emnesy_gpu.tasks.sudoku.settings import SudokuSettings

EVALUATIONS = 5
"""Evaluations in a run, spread over its epochs, beside that of the last epoch."""

SCORING_SWEEPS = 20
"""Sweeps of belief propagation that judge a test board of size 9."""


class SudokuTraining(ImageTraining):
    """One run on a split of ViSudo-PC.

    Trains on the valid boards of the training part alone, unless the settings say otherwise. The seed fixes the
    weights at the start, the order of the boards in every epoch and the augmentation. ``trials`` holds the records of
    the short runs from which the start was chosen.
    """

    def __init__(self, settings: SudokuSettings, split: Split) -> None:
        self.split = split
        self.trials: list[dict[str, Any]] = []
        rows = torch.arange(len(split.train)) if settings.with_invalid else split.train.labels.nonzero().squeeze(1)
        self.train_pixels, self.train_labels = split.train.pixels[rows], split.train.labels[rows]
        problem = em.Sudoku(settings.size, constraints="pairs")
        self.engine = Sharpened(engine_of(settings, problem))
        super().__init__(settings, problem, self.engine, len(rows), split.moments())
        self.train_pixels = self.train_pixels.to(self.device)
        self.train_labels = self.train_labels.to(self.device)

    def start_from(self, net: nn.Module) -> None:
        """Begin with the weights of another net of the same shape."""
        self.model.net.load_state_dict(net.state_dict())

    def begin_epoch(self) -> None:
        """Set the power of the prior, which falls to 1 over the first epochs."""
        share = min(1.0, (self.epoch - 1) / max(1, self.settings.sharpened_epochs))
        self.engine.power = self.settings.sharpening + (1 - self.settings.sharpening) * share
        super().begin_epoch()

    def rows(self, index: Tensor, part: Part | None = None) -> tuple[Tensor, Tensor]:
        """Return boards uint8 [batch, size, size, 28, 28] and whether they are valid."""
        index = (index if part is None else part.of(index)).to(self.device)
        return self.train_pixels[index], self.train_labels[index]

    def training_images(self) -> Tensor:
        """Return the images of the training boards."""
        return self.train_pixels.flatten(0, 2)

    def test_rows(self, rows: slice) -> TestRows:
        """Return test boards uint8 [n, size, size, 28, 28] and whether they are valid."""
        return TestRows(self.split.test.pixels[rows], self.split.test.labels[rows], self.problem)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training, with the records of the trials."""
        return {**super().state_dict(), "trials": self.trials}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state from ``state_dict``."""
        super().load_state_dict(state)
        self.trials = list(state["trials"])

    def evaluate(self) -> dict[str, float]:
        """Judge the test boards after every fifth of the epochs, and with the views too after the last epoch."""
        interval = max(1, self.settings.epochs // EVALUATIONS)
        last = self.epoch == self.settings.epochs
        if self.settings.trial or (self.epoch % interval and not last):
            return {}
        figures = self.judge(self.split.valid, self.split.test)
        if last and self.settings.views:
            by_views = self.judge(self.split.valid, self.split.test, self.settings.views)
            figures |= {f"{name}_views": value for name, value in by_views.items()}
        return figures

    def judge(self, calibration: Boards, test: Boards, views: int = 0) -> dict[str, float]:
        """Return figures on test boards.

        board_accuracy: a board counts as valid where the most probable symbol of every image alone makes a valid grid.
        calibrated_accuracy: where its log evidence exceeds the threshold that suits the labelled calibration boards
        best. auroc: of the log evidence. cell_accuracy: symbols right on valid boards under the best renaming.
        valid_evidence: mean log evidence of the valid boards. board_accuracy_own: as the loss itself reads a board,
        where it does.
        """
        calibration_scores = self.score(self.read(calibration.pixels, views))
        logits = self.read(test.pixels, views)
        scores, predicted = self.score(logits), logits.argmax(-1)
        valid = test.labels == 1
        threshold = best_threshold(calibration_scores, calibration.labels)
        read = label_read_by(self.trainer.engine, logits.to(self.device))
        own = {} if read is None else {"board_accuracy_own": float((read.cpu() == test.labels).double().mean())}
        return own | {
            "board_accuracy": float((self.problem.label(predicted) == test.labels).double().mean()),
            "calibrated_accuracy": threshold_accuracy(scores, test.labels, threshold),
            "threshold": threshold,
            "auroc": auroc(scores, test.labels),
            "cell_accuracy": matched_accuracy(predicted[valid], test.cells[valid], self.settings.size),
            "valid_evidence": float(scores[valid].double().mean()),
        }

    def score(self, logits: Tensor) -> Tensor:
        """Return the log evidence [n] that boards are valid: exact for 4x4, Bethe's approximation for 9x9."""
        engine = em.Exact() if self.settings.size == 4 else em.BeliefPropagation(SCORING_SWEEPS)
        ones = torch.ones(len(logits), dtype=torch.long)
        return em.posterior(self.problem, logits.float(), ones, engine).log_evidence
