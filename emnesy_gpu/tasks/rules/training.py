"""EM training on MNIST rules: rows of handwritten digits, only the label of a rule is known."""

from __future__ import annotations

from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.mnist.rows import RowTraining
from emnesy_gpu.tasks.rules.automata import automaton
from emnesy_gpu.tasks.rules.settings import RulesSettings


class RulesTraining(RowTraining):
    """One run on a rule of MNIST digits. A rule of fewer than ten digits leaves out the images of others."""

    def __init__(self, settings: RulesSettings, data: DataSet) -> None:
        problem = automaton(settings.rule, settings.symbols)
        super().__init__(settings, problem, data.of_classes(range(problem.cardinality)), Sampling(settings.seed))

    def evaluate(self) -> dict[str, float]:
        """Judge the test images.

        label_accuracy: rows whose digits, every image read by argmax, have the right label; the images are grouped in
        the order of the file. digit_accuracy: images right.
        """
        images = self.test.images
        predicted = self.predict(images.pixels)
        return {
            "label_accuracy": self.label_accuracy(predicted),
            "digit_accuracy": float((predicted == images.classes).double().mean()),
        }
