"""Reports of benchmark results as a table, as JSON, and as a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from emnesy_gpu.benchmarks.suite import Measurement, Suite, as_records
from emnesy_gpu.palette import series

MIB = 2.0**20
LEAST_MIB = 1e-3
"""Below it the axis of memory is linear, so that methods without memory of their own have a place."""


def table(suite: Suite, measurements: Sequence[Measurement], facts: dict[str, object]) -> Table:
    """A table with one line per size, batch and method, and ratios to the baseline and to the copy of the same run."""
    view = Table(title=f"{suite.title} on {facts['device']}, {facts['threads']} thread(s), medians")
    for column in (suite.size_name, "batch", "method", "time ms", f"x {suite.baseline}", "copies", "peak MiB", "error"):
        view.add_column(column, justify="left" if column == "method" else "right")
    by_key = {(m.size, m.batch, m.method): m for m in measurements}
    for m in measurements:
        baseline = by_key[m.size, m.batch, suite.baseline].seconds
        copy = by_key[m.size, m.batch, suite.copy].seconds
        view.add_row(
            str(m.size),
            str(m.batch),
            m.method,
            "out of memory: skipped" if m.seconds is None else f"{m.seconds * 1e3:.4f}",
            _ratio(baseline, m.seconds),
            _ratio(m.seconds, copy),
            "-" if m.peak is None else f"{m.peak / MIB:.2f}",
            "-" if m.error is None else f"{m.error:.0e}",
            end_section=m.method == list(suite.methods)[-1],
        )
    return view


def _ratio(numerator: float | None, denominator: float | None) -> str:
    return "-" if numerator is None or denominator is None else f"{numerator / denominator:.1f}"


def write_json(
    path: Path, measurements: Sequence[Measurement], facts: dict[str, object], startup: dict[str, float]
) -> None:
    """Write the machine, the startup seconds and the measurements as JSON."""
    record = {"machine": facts, "startup_seconds": startup, "measurements": as_records(measurements)}
    path.write_text(json.dumps(record, indent=1) + "\n")


def write_plot(path: Path, suite: Suite, measurements: Sequence[Measurement], facts: dict[str, object]) -> None:
    """Plot time per unit of work and peak memory over the size, at the largest batch.

    Methods have a marker each, hollow and smaller from one to the next, so that none hides another; named sizes have no
    lines between them. The legend says which method does not fit into memory, and whose memory cannot be read.
    """
    batch = max(m.batch for m in measurements)
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    time_axis, memory_axis = figure.subplots(1, 2)
    sizes = list(dict.fromkeys(m.size for m in measurements))
    for number, name in enumerate(suite.methods):
        rows = [m for m in measurements if m.method == name and m.batch == batch]
        if not rows:
            continue
        style = series(number) | {"markersize": 11 - number, "markerfacecolor": "none", "markeredgewidth": 1.6}
        style |= {"linestyle": "none"} if isinstance(sizes[0], str) else {}
        times = [(_place(m, sizes), 1e9 * m.seconds / (suite.work(m.size) * batch)) for m in rows if m.seconds]
        peaks = [(_place(m, sizes), m.peak / MIB) for m in rows if m.seconds and m.peak is not None]
        time_axis.plot(*_columns(times), label=name + _gaps(rows), **style)
        memory_axis.plot(*_columns(peaks), **style)
    time_axis.set(yscale="log", ylabel=f"ns per {suite.unit}", title="time")
    memory_axis.set_yscale("symlog", linthresh=LEAST_MIB)
    memory_axis.set(ylim=(-0.3 * LEAST_MIB, None), ylabel="MiB above the inputs", title="peak memory")
    for axis in (time_axis, memory_axis):
        _label_sizes(axis, suite, sizes)
    handles, labels = time_axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle(
        f"{suite.title}, batch {batch}, {facts['device']}, {facts['threads']} thread(s), torch {facts['torch']}"
    )
    figure.savefig(path, dpi=130)


def _columns(points: Sequence[tuple[Any, float]]) -> tuple[list[Any], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _place(measurement: Measurement, sizes: list[Any]) -> Any:
    """Return where a size stands: named ones side by side."""
    return sizes.index(measurement.size) if isinstance(measurement.size, str) else measurement.size


def _gaps(rows: Sequence[Measurement]) -> str:
    """Return which sizes a method lacks in the plot, and why."""
    skipped = [str(m.size) for m in rows if m.seconds is None]
    unread = any(m.peak is None for m in rows if m.seconds is not None)
    words = [f"no memory for {', '.join(skipped)}"] if skipped else []
    return f" ({', '.join([*words, *(['memory not read'] if unread else [])])})" if words or unread else ""


def _label_sizes(axis: Any, suite: Suite, sizes: list[Any]) -> None:
    """Label the sizes that were measured, and no others."""
    if isinstance(sizes[0], str):
        axis.set_xticks(range(len(sizes)), sizes, rotation=50, ha="right", rotation_mode="anchor")
        axis.set_xlim(-0.5, len(sizes) - 0.5)
    else:
        axis.set_xscale("log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    axis.minorticks_off()
    axis.set_xlabel(suite.size_name)
    axis.grid(alpha=0.3)


def show(
    suite: Suite, measurements: Sequence[Measurement], facts: dict[str, object], startup: dict[str, float]
) -> None:
    """Print the table, the meaning of each method, and the startup seconds."""
    console = Console()
    console.print(table(suite, measurements, facts))
    for name, meaning in suite.methods.items():
        console.print(f"{name:>14}  {meaning}")
    seconds = ", ".join(f"{name} {value:.2f} s" for name, value in startup.items())
    console.print(seconds, "until the first posterior")
