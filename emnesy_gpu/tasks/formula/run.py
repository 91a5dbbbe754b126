"""A training run on formulas, with its words and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from emnesy_gpu.tasks.formula.formulas import lengths
from emnesy_gpu.tasks.formula.glyphs import ORIGIN
from emnesy_gpu.tasks.formula.settings import FormulaSettings, recipe
from emnesy_gpu.tasks.formula.training import FormulaTraining
from emnesy_gpu.tasks.mnist.row_runner import RowRunner, percentages


class FormulaRunner(RowRunner):
    """Runs a training on formulas."""

    command = "formula"
    accuracies: ClassVar = {
        "values": "value_accuracy",
        "symbols": "symbol_accuracy",
        "digits": "digit_accuracy",
        "operators": "operator_accuracy",
    }
    settings_type, training_type = FormulaSettings, FormulaTraining

    @classmethod
    def recipe(cls, options: Mapping[str, Any], data: str) -> dict[str, Any]:
        """Return epochs, batch and schedule for a length of formulas."""
        return recipe(options["symbols"], data)

    def title(self) -> str:
        """Return the length of the formulas."""
        settings = self.training.settings
        return f"formulas of {', '.join(map(str, lengths(settings.symbols, settings.mixed)))} symbols"

    def identity(self) -> dict[str, Any]:
        """Return the length of the formulas and the origin of operators for the summary."""
        settings = self.training.settings
        return {"symbols": settings.symbols, "mixed": settings.mixed, "operators": ORIGIN}

    def introduction(self) -> list[str]:
        """Return the data, the origin of operators, the sizes and the settings in words."""
        data, *others = super().introduction()
        return [f"{data}; operators: {ORIGIN}, drawn by this program", *others]

    def verdicts(self, summary: dict[str, Any]) -> list[str]:
        """Return the accuracies in words."""
        values, symbols, digits, operators = percentages(summary, *self.accuracies.values())
        return [
            f"values {values} of {summary['test_formulas']}  symbols {symbols} of {summary['test_images']}  "
            f"digits {digits}  operators {operators}"
        ]


start, resume = FormulaRunner.start, FormulaRunner.resume
