"""A training run on addition from start to summary, with its files and its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from emnesy_gpu.tasks.addition.settings import AdditionSettings, recipe
from emnesy_gpu.tasks.addition.training import AdditionTraining
from emnesy_gpu.tasks.core.learning_curve import save_learning_curve
from emnesy_gpu.tasks.core.progress import PlainReporter
from emnesy_gpu.tasks.core.run_directory import RunDirectory
from emnesy_gpu.tasks.core.runner import Runner, durations, prepare_torch
from emnesy_gpu.tasks.core.settings import fill_in
from emnesy_gpu.tasks.mnist import choose
from emnesy_gpu.tasks.mnist.images import DataSet

CHOSEN_BY_RECIPE = ("epochs", "batch", "lr", "views")
CURVES = {
    "digits": "digit_accuracy",
    "whole sums": "sum_accuracy",
    "whole sums, 20 groupings": "sum_accuracy_20",
}
"""Name in the learning curve -> name in a record."""


def start(out: Path | None, data_dir: Path | None = None, **options: Any) -> AdditionRunner:
    """Return a new run; options that are None come from the recipe."""
    directory = RunDirectory.unused(out, AdditionSettings)
    data = choose.load(options["data"], data_dir)
    values = fill_in(options, recipe(options["digits"], options["augment"], data.name), CHOSEN_BY_RECIPE)
    settings = AdditionSettings(**{**values, "data": data.name})
    return _runner(settings, data, directory, resumed=False)


def resume(path: Path, data_dir: Path | None = None) -> AdditionRunner:
    """Return the run in a directory, after its last finished epoch."""
    directory = RunDirectory.used(path, AdditionSettings)
    settings = directory.read_settings()
    return _runner(settings, choose.load(settings.data, data_dir), directory, resumed=True)


def _runner(settings: AdditionSettings, data: DataSet, directory: RunDirectory | None, resumed: bool) -> AdditionRunner:
    prepare_torch(settings)
    if settings.holdout:
        data = data.hold_out(settings.holdout)
    return AdditionRunner(AdditionTraining(settings, data), data.source, directory, resumed)


class AdditionRunner(Runner):
    """Runs a training on addition, with its words and figures.

    Args:
        source: where the images are from, in words.
        training, directory, resumed: as for ``Runner``.
    """

    command = "addition"
    accuracies: ClassVar = {"sums": "sum_accuracy", "digits": "digit_accuracy"}
    training: AdditionTraining

    def __init__(
        self, training: AdditionTraining, source: str, directory: RunDirectory | None = None, resumed: bool = False
    ) -> None:
        super().__init__(training, directory, resumed)
        self.source = source

    def introduction(self) -> list[str]:
        """Return the data, the sizes and the settings in words."""
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
        """Report and write the accuracies, plainly and by views."""
        settings, summary = self.training.settings, summarise(self.training)
        report.message(f"{_verdict(summary, '')}  {summary['minutes']:.2f} min")
        if settings.views:
            views = f"by the mean of {settings.views} warped views and the image itself"
            report.message(f"{views}: {_verdict(summary, '_views')}")
        if self.directory is not None:
            self.directory.save_summary(summary)
            save_learning_curve(
                self.directory.curve, self.training.history, f"{settings.digits}-digit sums", CURVES, "sum"
            )
            report.message(f"written to {self.directory.path}")


def _verdict(summary: dict[str, Any], kind: str) -> str:
    names = ("sum_accuracy", "sum_accuracy_20", "digit_accuracy")
    sums, groupings, digits = (f"{100 * summary[name + kind]:.2f} %" for name in names)
    return f"whole sums {sums} of {summary['test_sums']}  (20 random groupings {groupings})  digits {digits}"


def summarise(training: AdditionTraining) -> dict[str, Any]:
    """Return the figures of the last epoch, and the minutes of all epochs with their evaluations."""
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
