"""A training run from its first line to its summary: reports, files, interruption and resumption."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch

from emnesy_gpu.memory import PeakMemory
from emnesy_gpu.tasks.core.distributed import current
from emnesy_gpu.tasks.core.progress import PlainReporter, reporter
from emnesy_gpu.tasks.core.stop_signals import Stopped, StopSignals, exit_code
from emnesy_gpu.tasks.core.training import BatchMetrics, EMTraining
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.event_files import EventFiles
from emnesy_gpu.tasks.files.folder_lock import locked
from emnesy_gpu.tasks.files.run_directory import RunDirectory

SECONDS_BETWEEN_SAVES = 300.0
"""A longer epoch is saved in its middle too."""


class Runner:
    """Takes a training from its first or its last finished epoch to its summary.

    A subclass gives the words of its task. Of several ranks, the first one alone reads and writes files, and reports.

    Args:
        training: the training, with no epoch done.
        directory: where the files of the run go; None writes no files.
        resumed: whether the directory holds a run to resume. Where it has no state yet, the run begins anew.
    """

    command: ClassVar[str]
    """The train command, for the line that says how to resume."""
    accuracies: ClassVar[dict[str, str]]
    """Name in reports -> name in a record."""
    patience = 0.0
    """Seconds to wait for another process that still writes into the directory."""
    peak_bytes: int | None = None
    """The most memory that the epochs took beyond what was in use before them; None until they are run."""

    events: EventFiles | None = None
    """Where the figures of epochs go beside the directory; see ``write_events``."""

    def __init__(self, training: EMTraining, directory: RunDirectory | None, resumed: bool = False) -> None:
        self.training, self.resumed, self.ranks = training, resumed, training.ranks
        self.directory = directory if self.ranks.is_first else None
        self.signals = StopSignals()

    def write_events(self) -> None:
        """Let the run write figures for TensorBoard, into a folder of its directory."""
        if self.directory is not None:
            self.events = EventFiles(self.directory.path / "tensorboard")

    def introduction(self) -> list[str]:
        """Return lines about the data and the settings."""
        raise NotImplementedError

    def prepare(self, report: PlainReporter) -> None:
        """Do what comes before the first epoch of a new run; the training may have done epochs after it."""

    def conclude(self, report: PlainReporter) -> None:
        """Report the figures of the finished run, and write them into its directory."""
        raise NotImplementedError

    def summarise(self) -> dict[str, Any]:
        """Return the final figures, as ``summary.json`` has them."""
        raise NotImplementedError

    def run(self) -> int:
        """Train to the end; returns the exit code: 0, or 128 and the number of the signal that ended the run.

        SIGINT, SIGTERM and SIGHUP end the batch, at most ``stop_signals.GRACE`` seconds later, and save the state.
        Raises DataError where another process writes into the directory.
        """
        training, stream = self.training, None if self.ranks.is_first else io.StringIO()
        report = reporter(training.settings.epochs, training.n_batches, self.accuracies, stream)
        with self._locked(), report:
            try:
                with self.signals:
                    for line in [*self.introduction(), *self.ranks.remarks(training.model)]:
                        report.message(line)
                    self._open(report)
                    memory = PeakMemory(training.device)
                    self._train(report)
                    self.peak_bytes = memory.bytes()
                    if self.ranks.is_first:
                        self.conclude(report)
            except KeyboardInterrupt as interruption:
                report.message(self._farewell())
                return exit_code(interruption)
            finally:
                if self.events is not None:
                    self.events.close()
        return 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the directory, on behalf of all ranks."""
        directory = self.directory
        with ExitStack() as stack:
            self.ranks.from_first(
                lambda: directory and stack.enter_context(locked(directory.path, self.patience))  # type: ignore[func-returns-value]
            )
            yield

    def _open(self, report: PlainReporter) -> None:
        """Restore the state from the directory of a resumed run, or save the first state of a new run there."""
        training, directory = self.training, self.directory
        state = self.ranks.from_first(lambda: self._begin(report))
        if state is not None:
            if not self.ranks.is_first:
                training.load_state_dict(state)
            return
        self.prepare(report)
        if directory is not None:
            directory.save_checkpoint(training.state_dict())
            if training.history:
                directory.rewrite_metrics(training.history)

    def _begin(self, report: PlainReporter) -> dict[str, Any] | None:
        """Return the state to go on from, or None where the run begins, whose directory is there by then."""
        directory = self.directory
        if directory is None:
            return None
        if self.resumed and directory.has_checkpoint():
            state = self.load(directory)
            directory.rewrite_metrics(self.training.history)
            left = "" if self.training.finished else f"; it goes on to epoch {self.training.settings.epochs}"
            report.message(f"resuming {directory.path} after {self._done()}{left}")
            return state
        if self.resumed:
            report.message(f"{directory.path} has no checkpoint yet: the run begins anew")
        else:
            directory.check_unused()
            directory.create(self.training.settings)
        return None

    def load(self, directory: RunDirectory) -> dict[str, Any]:
        """Take over the state that a directory holds, and return it; change nothing there.

        Raises DataError where it does not fit.
        """
        state = directory.load_checkpoint()
        try:
            self.training.load_state_dict(state)
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"{directory.checkpoint} does not fit {directory.config.name}: {type(error).__name__}: {reason}"
            ) from error
        return state

    def _train(self, report: PlainReporter) -> None:
        self.saved = time.monotonic()
        if self.events is not None:
            self.events.begin(self.training.history)

        def on_batch(metrics: BatchMetrics) -> None:
            noted, late = self.ranks.largest(self._noted(), time.monotonic() - self.saved > SECONDS_BETWEEN_SAVES)
            if noted or late:
                self._save()
            if noted:
                raise Stopped(noted)
            report.batch(metrics)

        with self.signals.deferred():
            while not self.training.finished:
                report.epoch_begins(self.training.epoch)
                record = self.training.run_epoch(on_batch)
                self._save()
                if self.directory is not None:
                    self.directory.append_metrics(record)
                if self.events is not None:
                    self.events.add(record)
                report.epoch_ends(record)
                (noted,) = self.ranks.largest(self._noted())
                if noted:
                    raise Stopped(noted)

    def _noted(self) -> int:
        """Return the signal that this process was sent; 0 for none. The ranks end at the same batch."""
        return self.signals.noted or 0

    def _save(self) -> None:
        if self.directory is not None:
            self.directory.save_checkpoint(self.training.state_dict())
        self.saved = time.monotonic()

    def _done(self) -> str:
        """Return how far the training is, in words."""
        epochs, progress = len(self.training.history), self.training.progress
        inside = f" and {progress.batches} of {self.training.n_batches} batches" if progress is not None else ""
        return f"{epochs} of {self.training.settings.epochs} epochs{inside}"

    def _farewell(self) -> str:
        """Return what was saved, by the file: the state in memory may be in the middle of a batch."""
        directory = self.directory
        if directory is None:
            return f"interrupted after {self._done()}; nothing was saved: give --out to save a run"
        remedy = f"continue with: python -m emnesy_gpu train {self.command} --resume {directory.path}"
        if not directory.config.exists():
            return "interrupted before the first epoch; nothing was saved"
        if not directory.checkpoint.exists():
            return f"interrupted before the first epoch; {remedy}"
        self.training.load_state_dict(directory.load_checkpoint())
        return f"interrupted after {self._done()}; {remedy}"


def prepare_torch(settings: Any) -> None:
    """Set threads and determinism; DataError where the device of the settings does not exist."""
    device = current().device(settings.device)
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
