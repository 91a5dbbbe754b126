"""The choice between the data sets of small grey images."""

from __future__ import annotations

from pathlib import Path

from emnesy_gpu.tasks.core.distributed import one_at_first
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import fashion, idx_files, sklearn_digits
from emnesy_gpu.tasks.mnist.images import DataSet

CHOICES = ("auto", "mnist", "digits", "fashion")


@one_at_first()
def load(name: str, data_dir: Path | None = None) -> DataSet:
    """Load "mnist", "digits", "fashion", or "auto": MNIST where its files are found, else scikit-learn's digits.

    Args:
        name: one of ``CHOICES``.
        data_dir: the folder of the files; None searches ``$EMNESY_DATA`` and the cache, and for MNIST asks OpenML last.

    Returns:
        ``DataSet`` with ``train`` and ``test``, each with ``pixels`` uint8 [n, 28, 28] and ``classes`` int64 [n].

    Raises DataError where files are missing or corrupt, or the download fails.
    """
    if name == "fashion":
        return fashion.load(data_dir)
    if name == "mnist":
        return idx_files.load(data_dir)
    if name == "digits":
        return sklearn_digits.load()
    if name != "auto":
        raise DataError(f"data set must be one of {', '.join(CHOICES)}, got {name!r}")
    folder = idx_files.find(data_dir)
    return sklearn_digits.load() if folder is None else idx_files.read(folder)
