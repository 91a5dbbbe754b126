"""Labelled images, and the data sets that hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emnesy_gpu.tasks.files.errors import DataError


@dataclass(frozen=True)
class Images:
    """Grey images uint8 [n, 28, 28] with the class of each, int64 [n]."""

    pixels: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor) -> Images:
        return Images(self.pixels[index], self.classes[index])


@dataclass(frozen=True)
class DataSet:
    """Training and test images, with a name and with words on where they were found."""

    name: str
    source: str
    train: Images
    test: Images

    def hold_out(self, n_images: int) -> DataSet:
        """Return the data with the last ``n_images`` training images in place of the test images, for trials."""
        if not 0 < n_images < len(self.train):
            raise DataError(
                f"cannot hold out {n_images} of {len(self.train)} training images: choose 1..{len(self.train) - 1}"
            )
        return replace(
            self,
            source=f"{self.source}; tested on the last {n_images} training images",
            train=self.train[:-n_images],
            test=self.train[-n_images:],
        )

    def of_classes(self, classes: range) -> DataSet:
        """Return the images of consecutive classes alone; the first becomes class 0."""
        return replace(self, train=_of_classes(self.train, classes), test=_of_classes(self.test, classes))

    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation of the training pixels in units of 255 (MNIST: 0.1307 and 0.3081)."""
        counts = torch.bincount(self.train.pixels.flatten(), minlength=256).double()
        values, share = torch.arange(256, dtype=torch.float64) / 255, counts / counts.sum()
        mean = (share * values).sum()
        return float(mean), float((share * (values - mean) ** 2).sum().sqrt())


def _of_classes(images: Images, classes: range) -> Images:
    found = images[(images.classes >= classes.start) & (images.classes < classes.stop)]
    return Images(found.pixels, found.classes - classes.start)
