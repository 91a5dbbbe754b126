"""How a training run reports itself: plain lines, or a live bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

from emnesy_gpu.tasks.files.extras import require

MINUTE, HOUR = 60.0, 3600.0
BAR_WIDTH = 10
"""Columns of the bar: with it, a line of one epoch fits into the 80 columns of a narrow terminal."""

LEAST_SECONDS = 1e-3
"""What a first batch takes at least, for a rate."""


def reporter(epochs: int, n_batches: int, accuracies: Mapping[str, str], stream: TextIO | None = None) -> PlainReporter:
    """Return a live bar where ``stream`` (by default standard output) is a terminal, else one plain line per epoch.

    accuracies: name in a report -> name in a record. Only epochs that have some of them get a line.
    """
    stream = sys.stdout if stream is None else stream
    kind = LiveReporter if stream.isatty() else PlainReporter
    return kind(epochs, n_batches, stream, accuracies)


class PlainReporter:
    """Prints one line per finished epoch. A context manager."""

    def __init__(self, epochs: int, n_batches: int, stream: TextIO, accuracies: Mapping[str, str]) -> None:
        self.epochs, self.n_batches, self.stream, self.accuracies = epochs, n_batches, stream, accuracies
        self.first: tuple[int, float] | None = None
        """The epoch that began first in this call, and when."""
        self.begun = 0

    def __enter__(self) -> PlainReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def epoch_begins(self, epoch: int) -> None:
        """Called before the first batch of an epoch; ``epoch`` counts from 1."""
        if self.first is None or epoch <= self.begun:  # trials count their epochs anew
            self.first = epoch, time.monotonic()
        self.begun = epoch

    def batch(self, metrics: dict[str, float]) -> None:
        """Called with the metrics of every batch."""

    def epoch_ends(self, record: dict[str, Any]) -> None:
        """Called with the record of a finished epoch."""
        if accuracy := accuracy_words(record, self.accuracies):
            self.message(epoch_line(record, self.epochs, accuracy) + self._remaining(record["epoch"]))

    def _remaining(self, epoch: int) -> str:
        """Return how long the epochs that are left will take, by those of this call; nothing after the last."""
        if self.first is None or epoch < self.first[0] or epoch >= self.epochs:
            return ""
        each = (time.monotonic() - self.first[1]) / (epoch - self.first[0] + 1)
        return f"  {duration(each * (self.epochs - epoch))} left"

    def message(self, text: str) -> None:
        """Show a line of text."""
        print(text, file=self.stream, flush=True)


class LiveReporter(PlainReporter):
    """Shows a bar over the batches of an epoch with the current figures, and the finished epochs above it."""

    def __init__(self, epochs: int, n_batches: int, stream: TextIO, accuracies: Mapping[str, str]) -> None:
        super().__init__(epochs, n_batches, stream, accuracies)
        progress = require("rich.progress")
        console = require("rich.console").Console(file=stream, highlight=False)
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(BAR_WIDTH),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=n_batches, figures="", rate="")
        self.started, self.batches = time.monotonic(), 0
        self.accuracy = ""

    def __enter__(self) -> LiveReporter:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def epoch_begins(self, epoch: int) -> None:
        self.started, self.batches = time.monotonic(), 0
        super().epoch_begins(epoch)
        self.bar.reset(self.task, description=f"epoch {epoch}/{self.epochs}", figures=self.accuracy, rate="")

    def batch(self, metrics: dict[str, float]) -> None:
        figures = f"loss {metrics['loss']:.3f}  {self.accuracy}"
        self.batches += 1
        rate = f"{self.batches / max(time.monotonic() - self.started, LEAST_SECONDS):.3g} batches/s"
        self.bar.update(self.task, advance=1, figures=figures, rate=rate)

    def epoch_ends(self, record: dict[str, Any]) -> None:
        first = dict(list(self.accuracies.items())[:1])  # the bar has room for one
        self.accuracy = accuracy_words(record, first) or self.accuracy
        super().epoch_ends(record)

    def message(self, text: str) -> None:
        self.bar.console.print(text, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(42.4), duration(100), duration(7300)
    ('42 s', '2 min', '2.0 h')
    """
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < HOUR else f"{seconds / HOUR:.1f} h"


def epoch_line(record: dict[str, Any], epochs: int, accuracy: str) -> str:
    """Return the line of a finished epoch; ``accuracy`` is from ``accuracy_words``."""
    return (
        f"epoch {record['epoch']:{len(str(epochs))}d}/{epochs}  loss {record['loss']:.4f}  "
        f"evidence {record['log_evidence']:.4f}  {accuracy}"
        f"E {record['seconds_e']:.2f} s  M {record['seconds_m']:.2f} s"
    )


def accuracy_words(record: dict[str, Any], accuracies: Mapping[str, str]) -> str:
    """Return the accuracies that a record has, each with its name before it and two spaces behind it."""
    return "".join(f"{name} {100 * record[key]:.2f} %  " for name, key in accuracies.items() if key in record)
