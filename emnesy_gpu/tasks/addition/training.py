"""EM training on MNIST addition: two numbers of n handwritten digits, only their sum is known."""

from __future__ import annotations

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.addition.settings import AdditionSettings
from emnesy_gpu.tasks.addition.sums import group, mean_sum_accuracy, sum_accuracy
from emnesy_gpu.tasks.core.engines import engine_by_name
from emnesy_gpu.tasks.core.errors import DataError
from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.mnist.training import ImageTraining

GIBBS_PENALTY = 3.0
"""Comes nearest to the exact posterior, over several priors and one and two digits."""


class AdditionTraining(ImageTraining):
    """One run on MNIST addition.

    The seed fixes the weights at the start, the pairing of the training images into sums (the same sums in every
    epoch: their labels are the only supervision), the order of the sums in every epoch and the augmentation.
    """

    problem: em.Addition

    def __init__(self, settings: AdditionSettings, data: DataSet) -> None:
        images_per_sum = 2 * settings.digits
        for part, images in (("training", data.train), ("test", data.test)):
            if len(images) < images_per_sum:
                raise DataError(
                    f"a sum of {settings.digits}-digit numbers needs {images_per_sum} images, "
                    f"there are {len(images)} {part} images: choose fewer --digits"
                )
        super().__init__(
            settings,
            em.Addition(n_digits=settings.digits),
            _engine(settings),
            len(data.train) // images_per_sum,
            data.moments(),
            settings.hard,
        )
        order = torch.randperm(len(data.train), generator=self.generator)
        self.train_sums = group(order, settings.digits)
        self.train_labels = self.problem.label(data.train.classes[self.train_sums]).to(self.device)
        self.train_pixels = data.train.pixels.to(self.device)
        self.test_sums = group(torch.arange(len(data.test)), settings.digits)
        self.test = data.test

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images uint8 [batch, 2, n_digits, 28, 28] and the digits of their sums."""
        pixels = self.train_pixels[self.train_sums[index].to(self.device)]
        return pixels, self.train_labels[index.to(self.device)]

    def evaluate(self) -> dict[str, float]:
        """Judge the test images; after the last epoch also by their views, where the settings ask for views."""
        figures = self.judge(self.predict(self.test.pixels))
        if self.settings.views and self.epoch == self.settings.epochs:
            by_views = self.judge(self.predict(self.test.pixels, self.settings.views))
            figures |= {f"{name}_views": value for name, value in by_views.items()}
        return figures

    def judge(self, predicted: Tensor) -> dict[str, float]:
        """Return the accuracies of the digits [n] read from the test images.

        sum_accuracy: whole sums right, the test images grouped in the order of the file. sum_accuracy_20: the mean
        over 20 random groupings. digit_accuracy: images right.
        """
        true = self.test.classes
        return {
            "sum_accuracy": sum_accuracy(self.problem, predicted, true, self.test_sums),
            "sum_accuracy_20": mean_sum_accuracy(self.problem, predicted, true),
            "digit_accuracy": float((predicted == true).double().mean()),
        }

    def predict(self, pixels: Tensor, views: int = 0) -> Tensor:
        """Return the most probable digit of every image, int64 [n] on the CPU; images and views as for ``read``."""
        return self.read(pixels, views).argmax(-1)


def _engine(settings: AdditionSettings) -> em.Engine | None:
    """Return the engine of the settings; None leaves the choice to ``em.EM``."""
    if settings.engine is None:
        return None
    return engine_by_name(settings.engine, em.Exact(), Sampling(settings.seed, "global", GIBBS_PENALTY))
