"""EM training of nets that read images of handwritten digits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import emnesy_gpu as em
from emnesy_gpu.tasks.core.training import EMTraining, Reading, running_average
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist.augmentation import Warp
from emnesy_gpu.tasks.mnist.nets import BUILDERS, ImageReader

IMAGES_PER_PASS = 1000
"""Images that are read at a time in tests."""

STATISTICS_IMAGES = 10_000
"""Images for the statistics of batch normalisation."""

SIDE = 28
"""Pixels along a side of an image."""

VIEW_SEED = 16
VIEW = Warp().scaled(0.6)
"""The warp of a view, weaker than that of training: a view should keep the symbol as legible as it was."""


class ImageTraining(EMTraining):
    """One run of a net that reads every symbol from a grey image of its own.

    Args:
        settings, problem, engine, n_rows, hard: as for ``EMTraining``; the settings also have ``net`` and ``augment``.
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
        """Build the net, and the readers of images around it and around its average."""
        net = self.build_net()
        warp = Warp() if self.settings.augment else None
        self.model = ImageReader(net, *self.moments, warp, self.generator).to(self.device)
        self.averaged_net = running_average(net, self.settings.plain)
        self.averaged_model = ImageReader(self.averaged_net, *self.moments, None, self.generator)
        self.weights_of_statistics: tuple[Any, ...] = ()

    def build_net(self) -> nn.Module:
        """Return the net of the settings for normalised images, with an output for every value of a symbol."""
        return BUILDERS[self.settings.net](self.problem.cardinality)

    def read(self, pixels: Tensor, views: int = 0) -> Tensor:
        """Read images with the averaged net: uint8 [..., 28, 28] -> log probabilities [..., cardinality].

        The result is float64 on the CPU. Every image is read alone. With views, the probability is the mean over the
        image itself and as many warped copies.
        """
        generator = torch.Generator().manual_seed(VIEW_SEED)
        warps = [*[VIEW] * views, None]
        readings = [self._log_probabilities(pixels.flatten(0, -3), warp, generator) for warp in warps]
        return (torch.stack(readings).logsumexp(0) - math.log(len(warps))).unflatten(0, pixels.shape[:-2])

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

    def training_images(self) -> Tensor:
        """Return the images that training sees, uint8 [n, 28, 28]."""
        raise NotImplementedError

    def _log_probabilities(self, images: Tensor, warp: Warp | None, generator: torch.Generator) -> Tensor:
        self._take_statistics(warp)
        with torch.inference_mode():
            parts = [self.averaged_net(part) for part in self._prepared(images, warp, generator)]
            return torch.cat(parts).cpu().double().log_softmax(-1)

    def _take_statistics(self, warp: Warp | None) -> None:
        """Give batch normalisation the statistics of training images that are warped like those to be read.

        Those of training belong to the weights of single steps, and to images that are warped more.
        """
        self.averaged_net.eval()
        weights = (warp, *(weight._version for weight in self.averaged_net.parameters()))
        if weights != self.weights_of_statistics:
            images = self.training_images()[:STATISTICS_IMAGES]
            update_bn(self._prepared(images, warp, torch.Generator().manual_seed(VIEW_SEED)), self.averaged_net)
            self.weights_of_statistics = weights

    def _prepared(self, images: Tensor, warp: Warp | None, generator: torch.Generator) -> Iterator[Tensor]:
        for part in images.split(IMAGES_PER_PASS):
            yield self.averaged_model.prepare(part.to(self.device), warp, generator)
