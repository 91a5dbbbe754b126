"""The learning curve of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emnesy_gpu.tasks.extras import require
from emnesy_gpu.tasks.run_directory import replace_file


def save_learning_curve(path: Path, history: list[dict[str, Any]], title: str) -> None:
    """Accuracies, and loss and log evidence per sum, against the epoch; a PNG file."""
    figure = require("matplotlib.figure").Figure(figsize=(10, 4), layout="constrained")
    accuracy, objective = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]

    def draw(axes: Any, name: str, label: str, scale: float = 1.0) -> None:
        axes.plot(epochs, [scale * record[name] for record in history], label=label)

    draw(accuracy, "digit_accuracy", "digits", 100)
    draw(accuracy, "sum_accuracy", "whole sums", 100)
    draw(accuracy, "sum_accuracy_20", "whole sums, 20 groupings", 100)
    accuracy.set(xlabel="epoch", ylabel="test accuracy, %", title=title)
    draw(objective, "loss", "M-step loss")
    draw(objective, "log_evidence", "log evidence")
    objective.set(xlabel="epoch", ylabel="nats per sum", title="training")
    for axes in (accuracy, objective):
        axes.legend()
        axes.grid(alpha=0.3)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=120))
