"""A training run on a rule, with its words and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from emnesy_gpu.tasks.mnist.row_runner import RowRunner, percentages
from emnesy_gpu.tasks.rules.settings import RulesSettings, recipe
from emnesy_gpu.tasks.rules.training import RulesTraining


class RulesRunner(RowRunner):
    """Runs a training on a rule."""

    command = "rules"
    accuracies: ClassVar = {"labels": "label_accuracy", "digits": "digit_accuracy"}
    settings_type, training_type = RulesSettings, RulesTraining
    chosen_by_recipe = ("symbols", *RowRunner.chosen_by_recipe)

    @classmethod
    def recipe(cls, options: Mapping[str, Any], data: str) -> dict[str, Any]:
        """Return symbols, epochs, batch and schedule for a rule."""
        return recipe(options["rule"], options["symbols"], data)

    def title(self) -> str:
        """Return the rule and its digits."""
        return f"{self.training.settings.rule} of {self.training.settings.symbols} digits"

    def identity(self) -> dict[str, Any]:
        """Return the rule and its digits for the summary."""
        return {"rule": self.training.settings.rule, "symbols": self.training.settings.symbols}

    def verdicts(self, summary: dict[str, Any]) -> list[str]:
        """Return the accuracies in words."""
        labels, digits = percentages(summary, *self.accuracies.values())
        return [f"labels {labels} of {summary['test_rows']}  digits {digits} of {summary['test_images']}"]


start, resume = RulesRunner.start, RulesRunner.resume
