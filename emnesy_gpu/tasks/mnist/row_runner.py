"""A training run on rows of images from start to summary, with its files and its reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from emnesy_gpu.tasks.core.progress import PlainReporter
from emnesy_gpu.tasks.core.runner import Runner, durations, prepare_torch
from emnesy_gpu.tasks.files.learning_curve import save_learning_curve
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.files.settings import fill_in
from emnesy_gpu.tasks.mnist import choose
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.mnist.rows import RowTraining
from emnesy_gpu.tasks.mnist.settings import RowSettings


class RowRunner(Runner):
    """Runs a training on rows of images. A subclass names the parts of its task, and has its words and figures.

    Args:
        source: where the images are from, in words.
        training, directory, resumed: as for ``Runner``.
    """

    settings_type: ClassVar[type[RowSettings]]
    """The settings of the task."""
    training_type: ClassVar[type[Any]]
    """The training of the task, a subclass of ``RowTraining`` that takes settings and data."""
    chosen_by_recipe: ClassVar[tuple[str, ...]] = ("epochs", "batch", "lr")
    """Options of the train command for which None means the recipe."""
    curves: ClassVar[Mapping[str, str] | None] = None
    """Name in the learning curve -> name in a record; None: the accuracies of reports."""
    training: RowTraining

    def __init__(
        self, training: RowTraining, source: str, directory: RunDirectory | None = None, resumed: bool = False
    ) -> None:
        super().__init__(training, directory, resumed)
        self.source = source

    @classmethod
    def start(cls, out: Path | None, data_dir: Path | None = None, **options: Any) -> RowRunner:
        """Return a new run; options that are None come from the recipe."""
        directory = RunDirectory.unused(out, cls.settings_type)
        data = choose.load(options["data"], data_dir)
        values = fill_in(options, cls.recipe(options, data.name), cls.chosen_by_recipe)
        return cls._of(cls.settings_type(**{**values, "data": data.name}), data, directory, resumed=False)

    @classmethod
    def resume(cls, path: Path, data_dir: Path | None = None) -> RowRunner:
        """Return the run in a directory, after its last finished epoch."""
        directory = RunDirectory.used(path, cls.settings_type)
        settings = directory.read_settings()
        return cls._of(settings, choose.load(settings.data, data_dir), directory, resumed=True)

    @classmethod
    def _of(cls, settings: RowSettings, data: DataSet, directory: RunDirectory | None, resumed: bool) -> RowRunner:
        prepare_torch(settings)
        if settings.holdout:
            data = data.hold_out(settings.holdout)
        return cls(cls.training_type(settings, data), data.source, directory, resumed)

    @classmethod
    def recipe(cls, options: Mapping[str, Any], data: str) -> dict[str, Any]:
        """Return the settings for what the options leave open; ``data`` is the name of the images."""
        raise NotImplementedError

    def title(self) -> str:
        """Return the name and the size of what is trained."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Return the settings that tell runs of the task apart, for the summary."""
        raise NotImplementedError

    def verdicts(self, summary: dict[str, Any]) -> list[str]:
        """Return the accuracies of a summary in words, the most important line first."""
        raise NotImplementedError

    def introduction(self) -> list[str]:
        """Return the data, the sizes and the settings in words."""
        training, settings, units = self.training, self.training.settings, f"{self.training.unit}s"
        mode = "supervised" if settings.supervised else "hard EM" if settings.hard else "soft EM"
        return [
            f"data: {self.source}",
            f"{self.title()}: {len(training.train)} {units} to train on, {len(training.test)} to test on; {mode}, "
            f"{settings.epochs} epochs, {settings.batch} {units} a batch, lr {settings.lr:g}, "
            f"net {settings.net}, {'augmented' if settings.augment else 'not augmented'}, "
            f"seed {settings.seed}, {settings.device}",
        ]

    def conclude(self, report: PlainReporter) -> None:
        """Report and write the accuracies."""
        training, summary = self.training, self.summarise()
        first, *others = self.verdicts(summary)
        report.message(f"{first}  {summary['minutes']:.2f} min")
        for line in others:
            report.message(line)
        if self.directory is not None:
            self.directory.save_summary(summary)
            curves = self.accuracies if self.curves is None else self.curves
            save_learning_curve(self.directory.curve, training.history, self.title(), curves, training.unit)
            report.message(self.directory.finished())

    def summarise(self) -> dict[str, Any]:
        """Return the figures of the last epoch, and the minutes of all epochs with their evaluations."""
        training, settings, history = self.training, self.training.settings, self.training.history
        figures = [name for name in history[-1] if "accuracy" in name or name == "log_evidence"]
        return {
            **self.identity(),
            "net": settings.net,
            "seed": settings.seed,
            "data": settings.data,
            "epochs": len(history),
            f"test_{training.unit}s": len(training.test),
            "test_images": len(training.test.images),
            **{name: history[-1][name] for name in figures},
            **durations(history),
        }


def percentages(summary: dict[str, Any], *names: str) -> list[str]:
    """Return accuracies of a summary as they stand in reports."""
    return [f"{100 * summary[name]:.2f} %" for name in names]
