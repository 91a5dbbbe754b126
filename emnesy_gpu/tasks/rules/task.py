"""The record of the task: MNIST rules."""

from __future__ import annotations

from emnesy_gpu.tasks.rules.automata import KNOWN_RULES
from emnesy_gpu.tasks.rules.command import rules, runs
from emnesy_gpu.tasks.rules.settings import RulesSettings, recipe
from emnesy_gpu.tasks.task import Origin, Task, TaskProtocol

RULE = next(iter(KNOWN_RULES))
"""The rule of the protocol, which the command takes by default."""


RULES = Task(
    name="rules",
    title=lambda size: f"{RULE} of {size} digits",
    headline="digit_accuracy",
    metric="Accuracy: test images whose digit is right by argmax; labels: test rows whose digits have the right label.",
    readings={"label_accuracy": "labels"},
    origin=Origin("data", usual="mnist", names={"mnist": "MNIST"}),
    settings=RulesSettings,
    recipe=lambda size, augment: recipe(RULE, size, "mnist"),
    runs=runs,
    command=rules,
    size_option="symbols",
    options=lambda size, seed, maps: {"symbols": size, "seed": seed},
    default_method=lambda size: "exact",
    protocol=TaskProtocol.of_one_size(2, "exact", minutes=0.5),
    recorded=("data",),
)
