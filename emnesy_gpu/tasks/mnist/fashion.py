"""Fashion-MNIST: grey images of ten kinds of clothes, in files as MNIST has them, and harder to read.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms"
(arXiv 1708.07747). The class of an image takes the place of a digit.
"""

from __future__ import annotations

import os
from pathlib import Path

from emnesy_gpu.folders import cache_dir
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import idx_files
from emnesy_gpu.tasks.mnist.images import DataSet

MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
"""Checksums of the uncompressed files of Debian's dataset-fashion-mnist."""

BELOW = ("FashionMNIST/raw", "fashion-mnist")
"""Where torchvision and Debian have the files below a folder of data."""

OF_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def load(data_dir: Path | None = None) -> DataSet:
    """Load the files from ``data_dir``, ``$EMNESY_DATA``, the cache, or the folder of the Debian package.

    Raises DataError, which says how to get them, where there are none, and for a file that is corrupt.
    """
    folder = _find(data_dir)
    return idx_files.read(folder, "fashion", f"Fashion-MNIST files in {folder}", MD5)


def _find(data_dir: Path | None) -> Path:
    roots = [data_dir] if data_dir else [Path(os.environ.get("EMNESY_DATA") or cache_dir()), cache_dir(), OF_DEBIAN]
    folders = [root / below for root in roots for below in BELOW]
    folders += [data_dir] if data_dir else [OF_DEBIAN]
    for folder in folders:
        if any((folder / f"{stem}{ending}").is_file() for stem in MD5 for ending in ("", ".gz")):
            return folder
    raise DataError(
        f"Fashion-MNIST was not found in {', '.join(map(str, roots))}: install Debian's dataset-fashion-mnist, or name "
        f"the folder of its four files with --data-dir"
    )
