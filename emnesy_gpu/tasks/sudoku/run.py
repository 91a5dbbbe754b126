"""A training run on visual Sudoku from start to summary, with its files and its reports."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

import emnesy_gpu as em
from emnesy_gpu.tasks.core.progress import PlainReporter
from emnesy_gpu.tasks.core.runner import Runner, durations, prepare_torch
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.learning_curve import save_learning_curve
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.files.settings import fill_in
from emnesy_gpu.tasks.sudoku import choose
from emnesy_gpu.tasks.sudoku.boards import Split
from emnesy_gpu.tasks.sudoku.metrics import best_renaming
from emnesy_gpu.tasks.sudoku.pictures import BoardView, save_boards
from emnesy_gpu.tasks.sudoku.settings import SudokuSettings, recipe
from emnesy_gpu.tasks.sudoku.training import SudokuTraining

TRIAL_SHARE = 0.1
"""Epochs of a trial as a share of those of the run."""

CHOSEN_BY_RECIPE = ("epochs", "batch", "lr", "restarts", "views")
CURVES = {"cells": "cell_accuracy", "boards, calibrated": "calibrated_accuracy", "boards": "board_accuracy"}
"""Name in the learning curve -> name in a record."""

CHANGES = {"swap": "swapped", "replace": "replaced"}
"""How a board was made invalid -> the same in words."""


def start(
    out: Path | None, data_dir: Path | None = None, visudo_dir: Path | None = None, **options: Any
) -> SudokuRunner:
    """Return a new run; options that are None come from the recipe."""
    directory = RunDirectory.unused(out, SudokuSettings)
    require("scipy.optimize")
    split = choose.load(options["size"], options["split"], options["data"], data_dir, visudo_dir)
    values = fill_in(options, recipe(split.size, split.data), CHOSEN_BY_RECIPE)
    settings = SudokuSettings(**{**values, "data": split.data, "boards": split.origin})
    return _runner(settings, split, directory, resumed=False)


def resume(path: Path, data_dir: Path | None = None, visudo_dir: Path | None = None) -> SudokuRunner:
    """Return the run in a directory, after its last finished epoch."""
    require("scipy.optimize")
    directory = RunDirectory.used(path, SudokuSettings)
    settings = directory.read_settings()
    split = choose.load(settings.size, settings.split, settings.data, data_dir, visudo_dir)
    return _runner(settings, split, directory, resumed=True)


def _runner(settings: SudokuSettings, split: Split, directory: RunDirectory | None, resumed: bool) -> SudokuRunner:
    prepare_torch(settings)
    return SudokuRunner(SudokuTraining(settings, split), directory, resumed)


class SudokuRunner(Runner):
    """Runs a training on visual Sudoku, with its words, figures and pictures."""

    command = "sudoku"
    accuracies: ClassVar = {"boards": "board_accuracy", "calibrated": "calibrated_accuracy", "cells": "cell_accuracy"}
    training: SudokuTraining

    def introduction(self) -> list[str]:
        """Return the data, the settings and the decision rules in words."""
        settings, split = self.training.settings, self.training.split
        kind = "valid and invalid" if settings.with_invalid else "valid"
        mode = "hard" if settings.hard else "soft"
        return [
            f"data: {split.source}",
            f"{split.size}x{split.size}: {self.training.n_rows} {kind} boards to train on, "
            f"{len(split.test)} to test on; {mode} EM, {settings.epochs} epochs, {settings.batch} boards a batch, "
            f"lr {settings.lr:g}, net {settings.net}, {'augmented' if settings.augment else 'not augmented'}, "
            f"seed {settings.seed}, {settings.device}",
            f"calibrated: by log evidence above a threshold from {len(split.valid)} labelled validation boards; "
            "boards: by the most probable symbol of every cell, without labels of cells and without a threshold; "
            "cells: under the best renaming",
        ]

    def prepare(self, report: PlainReporter) -> None:
        """Make short trials with consecutive seeds; the run starts from the net with the highest training evidence."""
        settings = self.training.settings
        if settings.restarts == 1:
            return
        epochs = max(1, round(TRIAL_SHARE * settings.epochs))
        best, best_evidence = self.training, -math.inf
        for seed in range(settings.seed, settings.seed + settings.restarts):
            trial = SudokuTraining(replace(settings, seed=seed, epochs=epochs, trial=True), self.training.split)
            while not trial.finished:
                record = trial.run_epoch()
            report.message(f"trial with seed {seed}: log evidence {record['log_evidence']:.3f} after {epochs} epochs")
            self.training.trials += trial.history
            if record["log_evidence"] > best_evidence:
                best, best_evidence = trial, record["log_evidence"]
        self.training.start_from(best.model.net)

    def conclude(self, report: PlainReporter) -> None:
        """Report and write the accuracies, plainly and by views, and draw example boards."""
        summary = self.summarise()
        report.message(_verdict(summary, ""))
        if self.training.settings.views:
            report.message(f"mean of {self.training.settings.views} warped views: {_verdict(summary, '_views')}")
        if self.directory is None:
            return
        training, split = self.training, self.training.split
        title = f"{split.size}x{split.size} Sudoku, split {split.number}, {split.origin}"
        self.directory.save_summary(summary)
        save_learning_curve(self.directory.curve, training.history, title, CURVES, "board")
        save_boards(self.directory.path / "boards.png", examples(training), title)
        report.message(self.directory.finished())

    def summarise(self) -> dict[str, Any]:
        """Return the figures of the last epoch, and the minutes of all epochs, those of the trials included."""
        settings, split, history = self.training.settings, self.training.split, self.training.history
        times = ("epoch", "loss", "possible", "seconds", "seconds_e", "seconds_m", "cpu_seconds")
        return {
            "size": settings.size,
            "split": settings.split,
            "boards": split.origin,
            "source": split.source,
            "net": settings.net,
            "seed": settings.seed,
            "epochs": len(history),
            "test_boards": len(split.test),
            "calibration_boards": len(split.valid),
            **{name: value for name, value in history[-1].items() if name not in times},
            **durations(self.training.trials + history),
        }


def _verdict(summary: dict[str, Any], kind: str) -> str:
    names = ("board_accuracy", "calibrated_accuracy", "auroc", "cell_accuracy")
    boards, calibrated, auroc, cells = (f"{100 * summary[name + kind]:.2f} %" for name in names)
    words = (
        f"boards {boards} of {summary['test_boards']} {summary['boards']}  "
        f"calibrated on {summary['calibration_boards']} labelled boards {calibrated}  AUROC {auroc}  cells {cells}"
    )
    return words if kind else f"{words}  {summary['minutes']:.2f} min"


def _made(note: str, valid: bool) -> str:
    """Return how a board was made, in words; notes of invalid boards are "swap(3)" or "replace(1)".

    >>> _made("swap(3)", False), _made("", False)
    ('invalid: cells swapped 3 times', 'invalid')
    """
    kind, _, times = note.rstrip(")").partition("(")
    if valid or kind not in CHANGES or not times.isdecimal():
        return "valid" if valid else "invalid"
    return f"invalid: cells {CHANGES[kind]} {times} time{'' if times == '1' else 's'}"


def examples(training: SudokuTraining) -> list[BoardView]:
    """Return the boards to show, whose symbols go by their true names.

    These are the first test board, its invalid copy, the valid board that looks least valid, and the invalid board
    that looks most valid.
    """
    boards, size = training.split.test, training.split.size
    logits = training.read(boards.pixels)
    scores, valid = training.score(logits), boards.labels == 1
    rows = [
        0,
        1,
        int(scores.masked_fill(~valid, torch.inf).argmin()),
        int(scores.masked_fill(valid, -torch.inf).argmax()),
    ]
    renaming = best_renaming(logits[valid].argmax(-1), boards.cells[valid], size)
    posterior = em.posterior(training.problem, logits[rows].float(), torch.ones(len(rows), dtype=torch.long)).marginals
    order = renaming.argsort()
    return [
        BoardView(
            f"{_made(boards.notes[row], bool(valid[row]))}\nlog p(valid) = {scores[row]:.2f}",
            boards.pixels[row],
            logits[row].exp()[..., order],
            q[..., order],
        )
        for row, q in zip(rows, posterior, strict=True)
    ]
