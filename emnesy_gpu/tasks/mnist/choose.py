"""The choice between the data sets of digits."""

from __future__ import annotations

from pathlib import Path

from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import idx_files, sklearn_digits
from emnesy_gpu.tasks.mnist.images import DataSet

CHOICES = ("auto", "mnist", "digits")


def load(name: str, data_dir: Path | None = None) -> DataSet:
    """Load "mnist", "digits", or "auto": MNIST where its files are found, else scikit-learn's bundled digits."""
    if name == "mnist":
        return idx_files.load(data_dir)
    if name == "digits":
        return sklearn_digits.load()
    if name != "auto":
        raise DataError(f"data set must be one of {', '.join(CHOICES)}, got {name!r}")
    folder = idx_files.find(data_dir)
    return sklearn_digits.load() if folder is None else idx_files.read(folder)
