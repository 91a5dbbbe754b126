"""Labelled images, and the choice between the data sets that hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor


class DataError(Exception):
    """Data that is missing or corrupt; the message names the file and the cause."""


@dataclass(frozen=True)
class Images:
    """Grey images uint8 [n, 28, 28] with the class of each, int64 [n]."""

    pixels: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice) -> Images:
        return Images(self.pixels[index], self.classes[index])


@dataclass(frozen=True)
class DataSet:
    """Training and test images; ``source`` says in words where they were found."""

    name: str
    source: str
    train: Images
    test: Images

    def hold_out(self, n_images: int) -> DataSet:
        """The last ``n_images`` training images in place of the test images, for the choice of a recipe."""
        if not 0 < n_images < len(self.train):
            raise DataError(f"cannot hold out {n_images} of {len(self.train)} training images")
        return replace(
            self,
            source=f"{self.source}; tested on the last {n_images} training images",
            train=self.train[:-n_images],
            test=self.train[-n_images:],
        )

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the training pixels in units of 255 (MNIST: 0.1307 and 0.3081)."""
        counts = torch.bincount(self.train.pixels.flatten(), minlength=256).double()
        values, share = torch.arange(256, dtype=torch.float64) / 255, counts / counts.sum()
        mean = (share * values).sum()
        return float(mean), float((share * (values - mean) ** 2).sum().sqrt())


def load(name: str, data_dir: Path | None = None) -> DataSet:
    """Load "mnist", "digits", or "auto": MNIST where its files are at hand, else scikit-learn's bundled digits."""
    from emnesy_gpu.tasks.mnist import idx_files, sklearn_digits

    if name == "mnist":
        return idx_files.load(data_dir)
    if name == "digits":
        return sklearn_digits.load()
    if name != "auto":
        raise DataError(f"unknown data set {name!r}: choose mnist, digits or auto")
    folder = idx_files.find(data_dir)
    return sklearn_digits.load() if folder is None else idx_files.read(folder)
