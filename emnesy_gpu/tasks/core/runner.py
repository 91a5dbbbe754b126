"""A training run from its first line to its summary: reports, files, interruption and resumption."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from emnesy_gpu.memory import PeakMemory
from emnesy_gpu.tasks.core.errors import DataError
from emnesy_gpu.tasks.core.progress import PlainReporter, reporter
from emnesy_gpu.tasks.core.run_directory import RunDirectory
from emnesy_gpu.tasks.core.training import EMTraining

INTERRUPTED = 130
"""The exit code of a run that Ctrl-C ended, as shells have it for SIGINT."""


class Runner:
    """Takes a training from its first or its last finished epoch to its summary.

    A subclass gives the words of its task.

    Args:
        training: the training, with no epoch done.
        directory: where the files of the run go; None writes no files.
        resumed: whether the directory holds a state to resume from.
    """

    command: ClassVar[str]
    """The train command, for the line that says how to resume."""
    accuracies: ClassVar[dict[str, str]]
    """Name in reports -> name in a record."""
    peak_bytes: int | None = None
    """The most memory that the epochs took beyond what was in use before them; None until they are run."""

    def __init__(self, training: EMTraining, directory: RunDirectory | None, resumed: bool = False) -> None:
        self.training, self.directory, self.resumed = training, directory, resumed

    def introduction(self) -> list[str]:
        """Return lines about the data and the settings."""
        raise NotImplementedError

    def prepare(self, report: PlainReporter) -> None:
        """Do what comes before the first epoch of a new run; the training may have done epochs after it."""

    def conclude(self, report: PlainReporter) -> None:
        """Report the figures of the finished run, and write them into its directory."""
        raise NotImplementedError

    def run(self) -> int:
        """Train to the end; returns the exit code."""
        training = self.training
        with reporter(training.settings.epochs, training.n_batches, self.accuracies) as report:
            for line in self.introduction():
                report.message(line)
            try:
                self._open(report)
                memory = PeakMemory(training.device)
                self._train(report)
                self.peak_bytes = memory.bytes()
            except KeyboardInterrupt:
                report.message(self._farewell())
                return INTERRUPTED
            self.conclude(report)
        return 0

    def _open(self, report: PlainReporter) -> None:
        """Restore the state from the directory of a resumed run, or save the first state of a new run there."""
        training, directory = self.training, self.directory
        if self.resumed and directory is not None:
            training.load_state_dict(directory.load_checkpoint())
            directory.rewrite_metrics(training.history)
            report.message(f"resuming {directory.path} after epoch {len(training.history)}")
            return
        self.prepare(report)
        if directory is not None:
            directory.create(training.settings)
            directory.save_checkpoint(training.state_dict())
            if training.history:
                directory.rewrite_metrics(training.history)

    def _train(self, report: PlainReporter) -> None:
        while not self.training.finished:
            report.epoch_begins(self.training.epoch)
            record = self.training.run_epoch(report.batch)
            report.epoch_ends(record)
            if self.directory is not None:
                self.directory.save_checkpoint(self.training.state_dict())
                self.directory.append_metrics(record)

    def _farewell(self) -> str:
        directory, epochs = self.directory, self.training.settings.epochs
        if directory is None:
            done = len(self.training.history)
            return f"interrupted after {done} of {epochs} epochs; nothing was saved: give --out to save a run"
        if not directory.checkpoint.exists():
            return "interrupted before the first epoch; nothing was saved"
        saved = len(directory.load_checkpoint()["history"])
        return (
            f"interrupted after {saved} of {epochs} epochs; "
            f"continue with: python -m emnesy_gpu train {self.command} --resume {directory.path}"
        )


def prepare_torch(settings: Any) -> None:
    """Set threads and determinism; DataError where the device of the settings does not exist."""
    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"--device {device}: PyTorch finds {torch.cuda.device_count()} CUDA devices, see emnesy doctor")
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def durations(history: list[dict[str, Any]]) -> dict[str, float]:
    """Return the minutes of all epochs with their evaluations, however often the run was resumed.

    ``minutes`` are by the clock, ``cpu_minutes`` are those of the process alone.
    """
    times = {"minutes": "seconds", "cpu_minutes": "cpu_seconds", "minutes_e": "seconds_e", "minutes_m": "seconds_m"}
    return {name: sum(record[seconds] for record in history) / 60 for name, seconds in times.items()}
