"""The 8x8 digits that scikit-learn brings, a small stand-in for MNIST without network and files."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.mnist.images import DataSet, Images

N_TRAIN = 1440
INK = 16
"""The darkest value of a bundled image."""

DIGIT_SIZE = 20
MARGIN = 4


def load() -> DataSet:
    """Return the first 1440 of the 1797 images for training and the last 357 for testing.

    The order of the bundled file goes by writer, so that most test digits come from writers that the net has not seen.
    """
    bundled = require("sklearn.datasets").load_digits()
    pixels = upscale(torch.from_numpy(bundled.images))
    classes = torch.from_numpy(bundled.target).long()
    images = Images(pixels, classes)
    return DataSet("digits", "scikit-learn's bundled digits", images[:N_TRAIN], images[N_TRAIN:])


def upscale(ink: Tensor) -> Tensor:
    """Scale ink 0..16 [n, 8, 8] to uint8 [n, 28, 28]: bilinear to 20x20 in a margin of 4, the layout of MNIST."""
    size = (DIGIT_SIZE, DIGIT_SIZE)
    large = F.interpolate((ink.float() / INK).unsqueeze(1), size=size, mode="bilinear", align_corners=False)
    return F.pad((large * 255).round().to(torch.uint8).squeeze(1), [MARGIN] * 4)
