"""A training run on addition from start to summary, with its files and its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from emnesy_gpu.tasks.addition.settings import Settings, recipe
from emnesy_gpu.tasks.addition.training import Training
from emnesy_gpu.tasks.core.learning_curve import save_learning_curve
from emnesy_gpu.tasks.core.progress import ADDITION_ACCURACIES, PlainReporter
from emnesy_gpu.tasks.core.run_directory import RunDirectory
from emnesy_gpu.tasks.core.runner import Runner, durations, prepare_torch
from emnesy_gpu.tasks.mnist import images


def begun(
    out: Path | None,
    data_dir: Path | None,
    *,
    digits: int,
    data: str,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    augment: bool,
    threads: int | None,
    views: int | None,
    **others: Any,
) -> AdditionRunner:
    """A new run; settings that are None come from the recipe."""
    directory = RunDirectory.unused(out)
    data_set = images.load(data, data_dir)
    chosen = {"epochs": epochs, "batch": batch, "lr": lr, "views": views}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    settings = Settings(
        digits=digits,
        data=data_set.name,
        augment=augment,
        threads=threads or torch.get_num_threads(),
        **{**recipe(digits, augment, data_set.name), **chosen},
        **others,
    )
    return _runner(settings, data_set, directory, resumed=False)


def continued(path: Path, data_dir: Path | None) -> AdditionRunner:
    """The run in a directory, after its last finished epoch."""
    directory = RunDirectory.used(path)
    settings = directory.read_settings()
    return _runner(settings, images.load(settings.data, data_dir), directory, resumed=True)


def _runner(
    settings: Settings, data_set: images.DataSet, directory: RunDirectory | None, resumed: bool
) -> AdditionRunner:
    prepare_torch(settings)
    if settings.holdout:
        data_set = data_set.hold_out(settings.holdout)
    return AdditionRunner(Training(settings, data_set), data_set.source, directory, resumed)


class AdditionRunner(Runner):
    """Words and figures of a run on addition."""

    command = "addition"
    accuracies = ADDITION_ACCURACIES
    training: Training

    def __init__(
        self, training: Training, source: str, directory: RunDirectory | None = None, resumed: bool = False
    ) -> None:
        super().__init__(training, directory, resumed)
        self.source = source

    def introduction(self) -> list[str]:
        training, settings = self.training, self.training.settings
        mode = "hard" if settings.hard else "soft"
        return [
            f"data: {self.source}",
            f"{settings.digits}-digit sums: {len(training.train_sums)} to train on, "
            f"{len(training.test_sums)} to test on; {mode} EM, {settings.epochs} epochs, "
            f"{settings.batch} sums a batch, lr {settings.lr:g}, "
            f"{'augmented' if settings.augment else 'not augmented'}, seed {settings.seed}, {settings.device}",
        ]

    def conclude(self, report: PlainReporter) -> None:
        settings, summary = self.training.settings, summarise(self.training)
        report.message(f"{_verdict(summary, '')}  {summary['minutes']:.2f} min")
        if settings.views:
            views = f"by the mean of {settings.views} warped views and the image itself"
            report.message(f"{views}: {_verdict(summary, '_views')}")
        if self.directory is not None:
            self.directory.save_summary(summary)
            save_learning_curve(self.directory.curve, self.training.history, f"{settings.digits}-digit sums")
            report.message(f"written to {self.directory.path}")


def _verdict(summary: dict[str, Any], kind: str) -> str:
    names = ("sum_accuracy", "sum_accuracy_20", "digit_accuracy")
    sums, groupings, digits = (f"{100 * summary[name + kind]:.2f} %" for name in names)
    return f"whole sums {sums} of {summary['test_sums']}  (20 random groupings {groupings})  digits {digits}"


def summarise(training: Training) -> dict[str, Any]:
    """The figures of the last epoch, and the minutes of all epochs with their evaluations, however often resumed."""
    history = training.history
    figures = [name for name in history[-1] if "accuracy" in name or name == "log_evidence"]
    return {
        "digits": training.settings.digits,
        "seed": training.settings.seed,
        "epochs": len(history),
        "test_sums": len(training.test_sums),
        **{name: history[-1][name] for name in figures},
        **durations(history),
    }
