"""EM training on rows of images: every image shows a symbol, and only a label of the whole row is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.core.distributed import Part
from emnesy_gpu.tasks.core.engines import engine_by_name
from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.core.training import TestRows
from emnesy_gpu.tasks.core.true_classes import TrueClasses
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist.images import DataSet, Images
from emnesy_gpu.tasks.mnist.settings import RowSettings
from emnesy_gpu.tasks.mnist.training import ImageTraining

TEST_SEED = 2**62
"""Seed of what is drawn for test rows: every run has the same ones, and no usual seed of a run draws them."""


@dataclass(frozen=True)
class Rows:
    """Images, and which of them are the symbols of each row: int64 [n_rows, *latent_shape]."""

    images: Images
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @property
    def classes(self) -> Tensor:
        """The true symbols, int64 [n_rows, *latent_shape]."""
        return self.images.classes[self.index]


LayOut = Callable[[Images, Tensor, torch.Generator], Rows]


def cut(order: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Cut an order of image indices [n] into rows int64 [n_rows, *shape].

    Every image is used once; the remainder is dropped. Images follow each other in row-major order. Raises DataError
    where there are too few images for one row.
    """
    n_rows = len(order) // prod(shape)
    if n_rows == 0:
        raise DataError(f"a row needs {prod(shape)} images, there are {len(order)}: choose fewer digits or symbols")
    return order[: n_rows * prod(shape)].view(n_rows, *shape)


def label_accuracy(problem: em.Problem, predicted: Tensor, true: Tensor, index: Tensor) -> float:
    """Return the share of rows [n_rows, *latent_shape] of images whose predicted classes [n] have the right label."""
    right = problem.label(predicted[index]) == problem.label(true[index])
    return float(right.view(len(index), -1).all(-1).double().mean())


class RowTraining(ImageTraining):
    """One run on rows of images.

    The seed fixes the weights at the start, the training images of every row (the same rows in every epoch: their
    labels are the only supervision), the order of the rows in every epoch and the augmentation.

    Args:
        settings, problem: as for ``EMTraining``.
        data: the images.
        sampling: what the task sets about sampling engines.
        lay_out: makes rows from images, their order of use, int64 [n], and randomness for what the task adds; None cuts
            the order into rows.
    """

    unit: ClassVar[str] = "row"
    """What has one label."""
    messages: em.Engine | None = None
    """The default engine of the task, of message passing, set before ``__init__``; None: ``em.EM`` chooses."""

    def __init__(
        self,
        settings: RowSettings,
        problem: em.Problem,
        data: DataSet,
        sampling: Sampling,
        lay_out: LayOut | None = None,
    ) -> None:
        lay_out = lay_out or (lambda images, order, generator: Rows(images, cut(order, problem.latent_shape)))
        generator = torch.Generator().manual_seed(settings.seed)
        self.train = lay_out(data.train, torch.randperm(len(data.train), generator=generator), generator)
        self.test = lay_out(data.test, torch.arange(len(data.test)), torch.Generator().manual_seed(TEST_SEED))
        self.known = TrueClasses(self.messages or em.Exact())
        engine = self._engine(settings, problem, sampling)
        super().__init__(settings, problem, engine, len(self.train), data.moments(), settings.hard)
        self.generator.set_state(generator.get_state())
        self.train_classes = self.train.classes.to(self.device)
        self.train_labels = problem.label(self.train_classes)
        self.train_pixels = self.train.images.pixels.to(self.device)

    def _engine(self, settings: RowSettings, problem: em.Problem, sampling: Sampling) -> em.Engine | None:
        """Return the engine of the settings; None leaves the choice to ``em.EM``."""
        if not settings.supervised:
            if settings.engine is None:
                return None if settings.hard else self.messages
            return engine_by_name(settings.engine, problem, self.messages or em.Exact(), sampling)
        if settings.hard or settings.engine is not None:
            raise ValueError(
                f"supervised=True has no E-step: leave out engine={settings.engine!r} and hard={settings.hard}"
            )
        return self.known

    def rows(self, index: Tensor, part: Part | None = None) -> tuple[Tensor, Tensor]:
        """Return images uint8 [batch, *latent_shape, 28, 28] and the labels of their rows."""
        index = index if part is None else part.of(index)
        pixels = self.train_pixels[self.train.index[index].to(self.device)]
        self.known.classes = self.train_classes[index.to(self.device)]
        return pixels, self.train_labels[index.to(self.device)]

    def training_images(self) -> Tensor:
        """Return the images of all training rows."""
        return self.train_pixels

    def test_rows(self, rows: slice) -> TestRows:
        """Return images uint8 [n, *latent_shape, 28, 28] and the labels of test rows."""
        index = self.test.index[rows]
        label = self.problem.label(self.test.images.classes[index])
        return TestRows(self.test.images.pixels[index], label, self.problem)

    def predict(self, pixels: Tensor, views: int = 0) -> Tensor:
        """Return the most probable class of every image, int64 [n] on the CPU; images and views as for ``read``."""
        return self.read(pixels, views).argmax(-1)

    def label_accuracy(self, predicted: Tensor) -> float:
        """Return the share of test rows with the right label, given the predicted classes of all test images [n]."""
        return label_accuracy(self.problem, predicted, self.test.images.classes, self.test.index)
