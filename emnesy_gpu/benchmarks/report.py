"""Reports of benchmark results as a table, as JSON, and as a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from emnesy_gpu.benchmarks.suite import Measurement, Suite, as_records

MIB = 2.0**20


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
    """Plot time per unit of work and peak memory over the size, at the largest batch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    batch = max(m.batch for m in measurements)
    figure, (time_axis, memory_axis) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name in suite.methods:
        rows = [(m, m.seconds) for m in measurements if m.method == name and m.batch == batch and m.seconds]
        sizes = [m.size for m, _ in rows]
        time_axis.plot(sizes, [1e9 * s / (suite.work(m.size) * batch) for m, s in rows], marker="o", label=name)
        if name != suite.copy and all(m.peak is not None for m, _ in rows):
            memory_axis.plot(sizes, [(m.peak or 0) / MIB for m, _ in rows], marker="o", label=name)
    for axis, title in ((time_axis, f"ns per {suite.unit}"), (memory_axis, "peak MiB above the inputs")):
        named = isinstance(suite.sizes[0], str)
        axis.set(xscale="linear" if named else "log", yscale="log", xlabel=suite.size_name, title=title)
        axis.grid(alpha=0.3, which="both")
    handles, labels = time_axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(suite.methods))
    figure.suptitle(
        f"{suite.title}, batch {batch}, {facts['device']}, {facts['threads']} thread(s), torch {facts['torch']}"
    )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


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
