"""EM training on MNIST rules: rows of handwritten digits, only the label of a rule is known."""

from __future__ import annotations

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.core.engines import engine_by_name
from emnesy_gpu.tasks.core.errors import DataError
from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.core.true_classes import TrueClasses
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.mnist.training import ImageTraining
from emnesy_gpu.tasks.rules.automata import automaton
from emnesy_gpu.tasks.rules.settings import RulesSettings


class RulesTraining(ImageTraining):
    """One run on a rule of MNIST digits.

    The seed fixes the weights at the start, the training images of every row (the same rows in every epoch), the order
    of the rows in every epoch and the augmentation. A rule of fewer than ten digits leaves out the images of others.
    """

    problem: em.Automaton

    def __init__(self, settings: RulesSettings, data: DataSet) -> None:
        if settings.supervised and (settings.hard or settings.engine is not None):
            raise ValueError(
                f"supervised=True has no E-step: leave out engine={settings.engine!r} and hard={settings.hard}"
            )
        problem = automaton(settings.rule, settings.symbols)
        data = data.below(problem.cardinality)
        for part, images in (("training", data.train), ("test", data.test)):
            if len(images) < settings.symbols:
                raise DataError(
                    f"a row of {settings.symbols} symbols needs as many images, "
                    f"there are {len(images)} {part} images: choose fewer --symbols"
                )
        self.known = TrueClasses(em.Exact())
        engine = self.known if settings.supervised else _engine(settings)
        super().__init__(settings, problem, engine, len(data.train) // settings.symbols, data.moments(), settings.hard)
        self.train_rows = self._cut(torch.randperm(len(data.train), generator=self.generator))
        self.train_classes = data.train.classes[self.train_rows].to(self.device)
        self.train_labels = problem.label(self.train_classes)
        self.train_pixels = data.train.pixels.to(self.device)
        self.test_rows = self._cut(torch.arange(len(data.test)))
        self.test = data.test

    def _cut(self, order: Tensor) -> Tensor:
        """Cut an order of image indices [n] into rows [n // symbols, symbols]; the remainder is dropped."""
        n_rows = len(order) // self.settings.symbols
        return order[: n_rows * self.settings.symbols].view(n_rows, -1)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images uint8 [batch, symbols, 28, 28] and the labels of their rows."""
        pixels = self.train_pixels[self.train_rows[index].to(self.device)]
        self.known.classes = self.train_classes[index.to(self.device)]
        return pixels, self.train_labels[index.to(self.device)]

    def evaluate(self) -> dict[str, float]:
        """Judge the test images.

        label_accuracy: rows whose digits, every image read by argmax, have the right label; the images are grouped in
        the order of the file. digit_accuracy: images right.
        """
        predicted, true = self.read(self.test.pixels).argmax(-1), self.test.classes
        found, wanted = (self.problem.label(digits[self.test_rows]) for digits in (predicted, true))
        return {
            "label_accuracy": float((found == wanted).view(len(wanted), -1).all(-1).double().mean()),
            "digit_accuracy": float((predicted == true).double().mean()),
        }


def _engine(settings: RulesSettings) -> em.Engine | None:
    """Return the engine of the settings; None leaves the choice to ``em.EM``."""
    if settings.engine is None:
        return None
    return engine_by_name(settings.engine, em.Exact(), Sampling(settings.seed))
