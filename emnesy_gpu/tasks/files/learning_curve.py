"""The learning curve of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file


def save_learning_curve(
    path: Path,
    history: list[dict[str, Any]],
    title: str,
    accuracies: Mapping[str, str],
    unit: str,
    part: str = "test",
) -> None:
    """Write a PNG file with accuracies on the left, and with loss and log evidence on the right.

    Args:
        path: the file.
        history: the records of the epochs; those without an accuracy are left out of its curve.
        title: what was trained.
        accuracies: name in the legend -> name in the records.
        unit: what has one label, such as "sum"; loss and log evidence are per unit.
        part: the part of the data that the accuracies are of.
    """
    figure = require("matplotlib.figure").Figure(figsize=(10, 4), layout="constrained")
    accuracy, objective = figure.subplots(1, 2)

    def draw(axes: Any, name: str, label: str, scale: float = 1.0) -> None:
        points = [(record["epoch"], scale * record[name]) for record in history if name in record]
        axes.plot(*zip(*points, strict=True), label=label)

    for label, name in accuracies.items():
        draw(accuracy, name, label, 100)
    accuracy.set(xlabel="epoch", ylabel=f"{part} accuracy, %", title=title)
    draw(objective, "loss", "M-step loss")
    draw(objective, "log_evidence", "log evidence")
    objective.set(xlabel="epoch", ylabel=f"nats per {unit}", title="training")
    for axes in (accuracy, objective):
        axes.legend()
        axes.grid(alpha=0.3)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=120))
