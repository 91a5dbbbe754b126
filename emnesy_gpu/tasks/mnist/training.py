"""EM training of LeNet on images of handwritten digits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import emnesy_gpu as em
from emnesy_gpu.tasks.core.training import EMTraining, Reading, running_average
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist.augmentation import Warp
from emnesy_gpu.tasks.mnist.nets import ImageReader, lenet

IMAGES_PER_PASS = 1000
"""Images that are read at a time in tests."""

SIDE = 28
"""Pixels along a side of an image."""

VIEW_SEED = 16
VIEW_STRENGTH = 0.6
"""Strength of the warp of a view, against that of training: a view should keep the symbol as legible as it was."""


class ImageTraining(EMTraining):
    """One run of LeNet, which reads every symbol from a grey image of its own.

    Args:
        settings, problem, engine, n_rows, hard: as for ``EMTraining``; the settings also have ``augment``.
        moments: mean and standard deviation of the training pixels, in units of 255.
    """

    def __init__(
        self,
        settings: Any,
        problem: em.Problem,
        engine: em.Engine | None,
        n_rows: int,
        moments: tuple[float, float],
        hard: bool = False,
    ) -> None:
        self.moments = moments
        super().__init__(settings, problem, engine, n_rows, hard)

    def build_models(self) -> None:
        """Build the net, and a model beside the averaged one that reads warped views of an image."""
        net = self.build_net()
        warp = Warp() if self.settings.augment else None
        self.model = ImageReader(net, *self.moments, warp, self.generator).to(self.device)
        self.averaged_net = running_average(net, self.settings.plain)
        self.averaged_model = ImageReader(self.averaged_net, *self.moments, None, self.generator)
        self.view_generator = torch.Generator()
        view = Warp().scaled(VIEW_STRENGTH)
        self.view_model = ImageReader(self.averaged_net, *self.moments, view, self.view_generator)

    def build_net(self) -> nn.Module:
        """Return the net that reads normalised images: LeNet with an output for every value of a symbol."""
        return lenet(self.problem.cardinality)

    def read(self, pixels: Tensor, views: int = 0) -> Tensor:
        """Read images with the averaged net: uint8 [..., 28, 28] -> log probabilities [..., cardinality].

        The result is float64 on the CPU. Every image is read alone. With views, the probability is the mean over the
        image itself and as many warped copies.
        """
        self.view_generator.manual_seed(VIEW_SEED)
        readers = [self.averaged_model.eval()] + [self.view_model.train()] * views
        with torch.inference_mode():
            readings = torch.stack([self._log_probabilities(reader, pixels.flatten(0, -3)) for reader in readers])
        return (readings.logsumexp(0) - math.log(len(readers))).unflatten(0, pixels.shape[:-2])

    def beliefs(self, pixels: Tensor) -> Tensor:
        """Return the logits of rows uint8 [n, *latent_shape, 28, 28]."""
        return self.read(pixels)

    def look_at(self, pixels: Tensor) -> Reading:
        """Read images uint8 [n, ..., 28, 28]; those laid out as rows [n, *latent_shape, 28, 28] have labels too."""
        if pixels.dtype != torch.uint8 or pixels.dim() < 3 or pixels.shape[-2:] != (SIDE, SIDE) or not len(pixels):
            raise DataError(
                f"images must be uint8 [n, ..., {SIDE}, {SIDE}], and rows of them [n, "
                f"{', '.join(map(str, self.problem.latent_shape))}, {SIDE}, {SIDE}], got {list(pixels.shape)}"
            )
        probabilities = self.read(pixels).exp()
        classes = probabilities.argmax(-1)
        is_row = classes.shape[1:] == self.problem.latent_shape
        return Reading(classes, probabilities, self.problem.label(classes) if is_row else None)

    def _log_probabilities(self, reader: ImageReader, images: Tensor) -> Tensor:
        parts = [reader(part.to(self.device)) for part in images.split(IMAGES_PER_PASS)]
        return torch.cat(parts).cpu().double().log_softmax(-1)
