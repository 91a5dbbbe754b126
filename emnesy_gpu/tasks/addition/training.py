"""EM training on MNIST addition: two numbers of n handwritten digits, only their sum is known."""

from __future__ import annotations

from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.addition.settings import AdditionSettings
from emnesy_gpu.tasks.addition.sums import mean_sum_accuracy
from emnesy_gpu.tasks.core.loss_engines import label_read_by
from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.mnist.rows import RowTraining

GIBBS_PENALTY = 3.0
"""Comes nearest to the exact posterior, over several priors and one and two digits."""


class AdditionTraining(RowTraining):
    """One run on MNIST addition. The images of a row are two numbers, each with its most significant digit first."""

    unit = "sum"
    problem: em.Addition

    def __init__(self, settings: AdditionSettings, data: DataSet) -> None:
        sampling = Sampling(settings.seed, "global", GIBBS_PENALTY)
        super().__init__(settings, em.Addition(n_digits=settings.digits), data, sampling)

    def evaluate(self) -> dict[str, float]:
        """Judge the test images; after the last epoch also by their views, where the settings ask for views."""
        pixels = self.test.images.pixels
        figures = self.judge(self.predict(pixels))
        if self.epoch < self.settings.epochs:
            return figures
        figures |= self.judge_the_loss()
        if self.settings.views:
            by_views = self.judge(self.predict(pixels, self.settings.views))
            figures |= {f"{name}_views": value for name, value in by_views.items()}
        return figures

    def judge_the_loss(self) -> dict[str, float]:
        """Return ``sum_accuracy_own``: whole sums that the loss itself reads rightly, where it reads sums."""
        rows = self.test_rows(slice(None))
        read = label_read_by(self.trainer.engine, self.beliefs(rows.pixels).to(self.device))
        if read is None:
            return {}
        return {"sum_accuracy_own": float((read.cpu() == rows.label).all(-1).double().mean())}

    def judge(self, predicted: Tensor) -> dict[str, float]:
        """Return the accuracies of the digits [n] read from the test images.

        sum_accuracy: whole sums right, the test images grouped in the order of the file. sum_accuracy_20: the mean
        over 20 random groupings. digit_accuracy: images right.
        """
        true = self.test.images.classes
        return {
            "sum_accuracy": self.label_accuracy(predicted),
            "sum_accuracy_20": mean_sum_accuracy(self.problem, predicted, true),
            "digit_accuracy": float((predicted == true).double().mean()),
        }
