"""The learning curve of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from emnesy_gpu.palette import COLOURS, series
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file

MOST_MARKERS = 40
"""Epochs up to which every one has a marker."""

LOGARITHMIC_FROM = 20.0
"""Ratio of the largest to the least figure from which an axis is logarithmic."""

HEADROOM = 1.35
"""Of the highest bar, so that the legend has a place above the bars."""

SECONDS = {"E-step": "seconds_e", "M-step": "seconds_m"}
"""Name in the legend -> name in the records, of the seconds of an epoch."""

Points = list[tuple[int, float]]
"""Epoch and figure."""


def save_learning_curve(
    path: Path,
    history: list[dict[str, Any]],
    title: str,
    accuracies: Mapping[str, str],
    unit: str,
    part: str = "test",
) -> None:
    """Write a PNG file with accuracies, with the loss and -log p(label), and with the seconds of each epoch.

    Args:
        path: the file.
        history: the records of the epochs; those without an accuracy are left out of its curve.
        title: what was trained.
        accuracies: name in the legend -> name in the records.
        unit: what has one label, such as "sum"; loss and evidence are per unit.
        part: the part of the data that the accuracies are of.
    """
    figure = require("matplotlib.figure").Figure(figsize=(13, 4.2), layout="constrained")
    figure.suptitle(title)
    accuracy, objective, time = figure.subplots(1, 3, width_ratios=(1.25, 1.25, 1))
    found = {label: _points(history, name, 100) for label, name in accuracies.items()}
    _draw_curves(accuracy, found, "{:.2f} %")
    accuracy.set(ylabel=f"{part} accuracy, %", title="what the net reads")
    losses = {
        "M-step loss": _points(history, "loss"),
        "-log p(label)": _points(history, "log_evidence", -1),
    }
    _draw_curves(objective, losses, "{:.3f}")
    objective.set(ylabel=f"nats per {unit}", title="what training lowers")
    _scale(objective, [value for points in losses.values() for _, value in points])
    _draw_seconds(time, history)
    for axes in (accuracy, objective, time):
        _label_epochs(axes, len(history))
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=120))


def _points(history: list[dict[str, Any]], name: str, scale: float = 1.0) -> Points:
    """Return the epochs that have a finite figure; the evidence of impossible labels is infinite or None."""
    found = [(record["epoch"], record.get(name)) for record in history]
    return [(epoch, scale * value) for epoch, value in found if value is not None and math.isfinite(value)]


def _draw_curves(axes: Any, curves: Mapping[str, Points], last: str) -> None:
    """Draw curves whose names in the legend end in their last figure, by the format ``last``."""
    for number, (label, points) in enumerate(curves.items()):
        if points:
            style = series(number) | ({} if len(points) <= MOST_MARKERS else {"marker": None})
            axes.plot(*zip(*points, strict=True), label=f"{label}: {last.format(points[-1][1])}", markersize=5, **style)
    if axes.lines:
        axes.legend()


def _scale(axes: Any, values: list[float]) -> None:
    """Make the vertical axis logarithmic where the figures differ by much."""
    if values and min(values) > 0 and max(values) > LOGARITHMIC_FROM * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(require("matplotlib.ticker").FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_seconds(axes: Any, history: list[dict[str, Any]]) -> None:
    epochs, below = [record["epoch"] for record in history], [0.0] * len(history)
    for number, (label, name) in enumerate(SECONDS.items()):
        seconds = [record[name] for record in history]
        words = f"{label}: median {median(seconds):.2g} s"  # the first epoch compiles kernels
        axes.bar(epochs, seconds, bottom=below, width=0.8, color=COLOURS[1 - number], label=words)
        below = [a + b for a, b in zip(below, seconds, strict=True)]
    axes.legend(loc="upper right")
    axes.set(ylim=(0, HEADROOM * max(below) or 1.0), ylabel="seconds per epoch", title="what it costs")


def _label_epochs(axes: Any, epochs: int) -> None:
    """Label whole epochs only, and leave room on both sides of a single one."""
    axes.xaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(integer=True, min_n_ticks=1))
    room = 0.5 + 0.02 * epochs
    axes.set(xlabel="epoch", xlim=(1 - room, epochs + room))
    axes.grid(alpha=0.3)
