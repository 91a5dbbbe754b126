"""A training run on addition, with its words and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from emnesy_gpu.tasks.addition.settings import AdditionSettings, recipe
from emnesy_gpu.tasks.addition.training import AdditionTraining
from emnesy_gpu.tasks.mnist.row_runner import RowRunner, percentages


class AdditionRunner(RowRunner):
    """Runs a training on addition."""

    command = "addition"
    accuracies: ClassVar = {"sums": "sum_accuracy", "digits": "digit_accuracy"}
    settings_type, training_type = AdditionSettings, AdditionTraining
    chosen_by_recipe = (*RowRunner.chosen_by_recipe, "views")
    curves: ClassVar = {
        "digits": "digit_accuracy",
        "whole sums": "sum_accuracy",
        "whole sums, 20 groupings": "sum_accuracy_20",
    }

    @classmethod
    def recipe(cls, options: Mapping[str, Any], data: str) -> dict[str, Any]:
        """Return epochs, batch and schedule for a number of digits."""
        return recipe(options["digits"], options["augment"], data)

    def title(self) -> str:
        """Return the digits of a number."""
        return f"{self.training.settings.digits}-digit addition"

    def identity(self) -> dict[str, Any]:
        """Return the digits of a number for the summary."""
        return {"digits": self.training.settings.digits}

    def verdicts(self, summary: dict[str, Any]) -> list[str]:
        """Return the accuracies in words, plainly and by views."""
        views = self.training.settings.views
        lines = [_verdict(summary, "")]
        if views:
            lines.append(f"by the mean of {views} warped views and the image itself: {_verdict(summary, '_views')}")
        return lines


start, resume = AdditionRunner.start, AdditionRunner.resume


def _verdict(summary: dict[str, Any], kind: str) -> str:
    names = ("sum_accuracy", "sum_accuracy_20", "digit_accuracy")
    sums, groupings, digits = percentages(summary, *(name + kind for name in names))
    return f"whole sums {sums} of {summary['test_sums']}  (20 random groupings {groupings})  digits {digits}"
