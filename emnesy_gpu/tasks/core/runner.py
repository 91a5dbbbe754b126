"""The course of a training run: reports, files, interruption and resumption, the same for every task."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from emnesy_gpu.memory import PeakMemory
from emnesy_gpu.tasks.core.progress import PlainReporter, reporter
from emnesy_gpu.tasks.core.run_directory import RunDirectory
from emnesy_gpu.tasks.core.training import EMTraining
from emnesy_gpu.tasks.mnist.images import DataError

INTERRUPTED = 130


class Runner:
    """Takes a training from its first or its last finished epoch to its summary.

    A subclass gives the words of its task.

    command: the train command, for the line that says how to continue.
    accuracies: name in reports -> name in a record.
    peak_bytes: the most memory that the epochs took beyond what was in use before them, once they are run.
    """

    command: ClassVar[str]
    accuracies: ClassVar[dict[str, str]]
    peak_bytes: int | None = None

    def __init__(self, training: EMTraining, directory: RunDirectory | None, resumed: bool = False) -> None:
        self.training, self.directory, self.resumed = training, directory, resumed

    def introduction(self) -> list[str]:
        """Lines about the data and the settings."""
        raise NotImplementedError

    def prepare(self, report: PlainReporter) -> None:
        """Whatever comes before the first epoch of a new run."""

    def conclude(self, report: PlainReporter) -> None:
        """Report the figures of the finished run, and write them into its directory."""
        raise NotImplementedError

    def run(self) -> int:
        """Returns the exit code."""
        training = self.training
        with reporter(training.settings.epochs, training.n_batches, accuracies=self.accuracies) as report:
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
        """Restore the state from a resumed directory, or save the initial state into a new one."""
        training, directory = self.training, self.directory
        if self.resumed and directory is not None:
            training.load_state_dict(directory.load_checkpoint())
            directory.rewrite_metrics(training.history)
            report.message(f"continuing {directory.path} after epoch {len(training.history)}")
            return
        self.prepare(report)
        if directory is not None:
            directory.create(training.settings)
            directory.save_checkpoint(training.state_dict())

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
            return f"interrupted after {done} of {epochs} epochs; nothing was saved, as there was no --out"
        if not directory.checkpoint.exists():
            return "interrupted before the first epoch; nothing was saved"
        saved = len(directory.load_checkpoint()["history"])
        return (
            f"interrupted after {saved} of {epochs} epochs; "
            f"continue with: python -m emnesy_gpu train {self.command} --resume {directory.path}"
        )


def prepare_torch(settings: Any) -> None:
    """Threads and determinism; DataError where the device does not exist."""
    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"--device {device}: PyTorch finds {torch.cuda.device_count()} CUDA devices")
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def durations(history: list[dict[str, Any]]) -> dict[str, float]:
    """Minutes of all epochs with their evaluations, however often resumed.

    ``minutes`` are by the clock, ``cpu_minutes`` are those of the process alone.
    """
    times = {"minutes": "seconds", "cpu_minutes": "cpu_seconds", "minutes_e": "seconds_e", "minutes_m": "seconds_m"}
    return {name: sum(record[seconds] for record in history) / 60 for name, seconds in times.items()}
