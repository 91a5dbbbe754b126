"""The record of the task: handwritten formulas."""

from __future__ import annotations

from emnesy_gpu.tasks.formula.command import formula, runs
from emnesy_gpu.tasks.formula.settings import FormulaSettings, recipe
from emnesy_gpu.tasks.task import Origin, Task, TaskProtocol

FORMULA = Task(
    name="formula",
    title=lambda size: f"formulas of {size} symbols",
    headline="symbol_accuracy",
    metric="Accuracy: test images whose symbol is right by argmax; values: test formulas whose symbols have the right "
    "value. Operators are generated.",
    readings={"value_accuracy": "values", "digit_accuracy": "digits", "operator_accuracy": "operators"},
    origin=Origin("data", usual="mnist", names={"mnist": "MNIST, generated operators"}),
    settings=FormulaSettings,
    recipe=lambda size, augment: recipe(size, "mnist"),
    runs=runs,
    command=formula,
    size_option="symbols",
    options=lambda size, seed, maps: {"symbols": size, "seed": seed},
    default_method=lambda size: "exact",
    protocol=TaskProtocol.of_one_size(5, "exact", minutes=1.0),
    recorded=("data", "operators"),
)
