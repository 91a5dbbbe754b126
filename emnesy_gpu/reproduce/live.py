"""How a campaign reports itself: a live table and a bar on a terminal, else one line a finished experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from emnesy_gpu.reproduce.protocol import Experiment, estimate
from emnesy_gpu.tasks.files.extras import require

if TYPE_CHECKING:
    from emnesy_gpu.reproduce.campaign import Campaign

SHOWN = 20
"""Rows of the live table at most."""

COLUMNS = ("experiment", "accuracy", "minutes of CPU", "E-step", "M-step", "MiB")
MIB = 2**20


class Progress:
    """Shows the progress of a campaign. A context manager; ``finished`` is called for every experiment."""

    def __init__(self, campaign: Campaign, stream: TextIO) -> None:
        self.experiments, self.stream = campaign.remaining(), stream
        self.total, self.done, self.rows = sum(map(estimate, self.experiments)), 0.0, list[tuple[str, ...]]()
        self.count = 0
        self.live: Any = None

    def __enter__(self) -> Progress:
        if self.stream.isatty():
            progress = require("rich.progress")
            self.bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
            )
            self.task = self.bar.add_task("", total=self.total)
            console = require("rich.console").Console(file=self.stream, highlight=False)
            self.live = require("rich.live").Live(console=console, refresh_per_second=2)
            self.live.start()
            self._draw()
        return self

    def __exit__(self, *ignored: object) -> None:
        if self.live is not None:
            self.live.stop()

    def finished(self, experiment: Experiment, records: Sequence[dict[str, Any]]) -> None:
        """Show the records of a finished experiment."""
        self.count += 1
        self.done += estimate(experiment)
        new = [row(record) for record in records]
        self.rows += new
        if self.live is not None:
            self._draw()
            return
        for words in new:
            named = (f"{name} {value}" for name, value in zip(COLUMNS[1:], words[1:], strict=True) if value)
            print(
                f"[{self.count}/{len(self.experiments)}] {words[0]}: {', '.join(named)}", file=self.stream, flush=True
            )

    def _draw(self) -> None:
        table = require("rich.table").Table(*COLUMNS, box=require("rich.box").SIMPLE_HEAD)
        for words in self.rows[-SHOWN:]:
            table.add_row(*words)
        self.bar.update(
            self.task, completed=self.done, description=f"{self.count} of {len(self.experiments)} experiments"
        )
        self.live.update(require("rich.console").Group(table, self.bar))


def row(record: dict[str, Any]) -> tuple[str, ...]:
    """Return the words of one record, in the order of COLUMNS; empty where it has no such figure."""
    name = record["key"] if record["kind"] == "training" else f"{record['key']}, {record.get('method', '')}"
    if record["status"] == "timeout":
        return name, f"T/O after {record['limit_minutes']:g} min", "", "", "", ""
    if record["status"] == "diverged":
        return name, record["error"], "", "", "", ""
    if record["status"] != "done":
        return name, f"{record['status'].replace('_', ' ')}: {record['error']}", "", "", "", ""
    if record["kind"] == "e_step":
        return name, "", "", f"{1e3 * record['seconds']:.3f} ms a batch", "", _mib(record["peak_bytes"])
    return (
        name,
        f"{100 * record['figures']['accuracy']:.2f} %",
        f"{record['cpu_minutes']:.2f}",
        f"{record['seconds_e_per_epoch']:.2f} s an epoch",
        f"{record['seconds_m_per_epoch']:.2f} s an epoch",
        _mib(record["peak_process_bytes"]),
    )


def _mib(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f"{n_bytes / MIB:.1f}"
