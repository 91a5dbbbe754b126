"""A training run on a rule from start to summary, with its files and its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from emnesy_gpu.tasks.core.learning_curve import save_learning_curve
from emnesy_gpu.tasks.core.progress import PlainReporter
from emnesy_gpu.tasks.core.run_directory import RunDirectory
from emnesy_gpu.tasks.core.runner import Runner, durations, prepare_torch
from emnesy_gpu.tasks.core.settings import fill_in
from emnesy_gpu.tasks.mnist import choose
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.rules.settings import RulesSettings, recipe
from emnesy_gpu.tasks.rules.training import RulesTraining

CHOSEN_BY_RECIPE = ("symbols", "epochs", "batch", "lr")


def start(out: Path | None, data_dir: Path | None = None, **options: Any) -> RulesRunner:
    """Return a new run; options that are None come from the recipe."""
    directory = RunDirectory.unused(out, RulesSettings)
    data = choose.load(options["data"], data_dir)
    values = fill_in(options, recipe(options["rule"], options["symbols"], data.name), CHOSEN_BY_RECIPE)
    settings = RulesSettings(**{**values, "data": data.name})
    return _runner(settings, data, directory, resumed=False)


def resume(path: Path, data_dir: Path | None = None) -> RulesRunner:
    """Return the run in a directory, after its last finished epoch."""
    directory = RunDirectory.used(path, RulesSettings)
    settings = directory.read_settings()
    return _runner(settings, choose.load(settings.data, data_dir), directory, resumed=True)


def _runner(settings: RulesSettings, data: DataSet, directory: RunDirectory | None, resumed: bool) -> RulesRunner:
    prepare_torch(settings)
    if settings.holdout:
        data = data.hold_out(settings.holdout)
    return RulesRunner(RulesTraining(settings, data), data.source, directory, resumed)


class RulesRunner(Runner):
    """Runs a training on a rule, with its words and figures.

    Args:
        source: where the images are from, in words.
        training, directory, resumed: as for ``Runner``.
    """

    command = "rules"
    accuracies: ClassVar = {"labels": "label_accuracy", "digits": "digit_accuracy"}
    training: RulesTraining

    def __init__(
        self, training: RulesTraining, source: str, directory: RunDirectory | None = None, resumed: bool = False
    ) -> None:
        super().__init__(training, directory, resumed)
        self.source = source

    def introduction(self) -> list[str]:
        """Return the data, the sizes and the settings in words."""
        training, settings = self.training, self.training.settings
        mode = "supervised" if settings.supervised else "hard EM" if settings.hard else "soft EM"
        return [
            f"data: {self.source}",
            f"{_title(settings)}: {len(training.train_rows)} rows to train on, "
            f"{len(training.test_rows)} to test on; {mode}, {settings.epochs} epochs, "
            f"{settings.batch} rows a batch, lr {settings.lr:g}, "
            f"{'augmented' if settings.augment else 'not augmented'}, seed {settings.seed}, {settings.device}",
        ]

    def conclude(self, report: PlainReporter) -> None:
        """Report and write the accuracies."""
        settings, summary = self.training.settings, summarise(self.training)
        labels, digits = (f"{100 * summary[name]:.2f} %" for name in self.accuracies.values())
        report.message(
            f"labels {labels} of {summary['test_rows']}  digits {digits} of {summary['test_images']}  "
            f"{summary['minutes']:.2f} min"
        )
        if self.directory is not None:
            self.directory.save_summary(summary)
            save_learning_curve(self.directory.curve, self.training.history, _title(settings), self.accuracies, "row")
            report.message(f"written to {self.directory.path}")


def _title(settings: RulesSettings) -> str:
    return f"{settings.rule} of {settings.symbols} digits"


def summarise(training: RulesTraining) -> dict[str, Any]:
    """Return the figures of the last epoch, and the minutes of all epochs with their evaluations."""
    history = training.history
    return {
        "rule": training.settings.rule,
        "symbols": training.settings.symbols,
        "seed": training.settings.seed,
        "data": training.settings.data,
        "epochs": len(history),
        "test_rows": len(training.test_rows),
        "test_images": len(training.test),
        **{name: history[-1][name] for name in ("label_accuracy", "digit_accuracy", "log_evidence")},
        **durations(history),
    }
