"""MNIST in IDX files, which are found locally or fetched once through scikit-learn's OpenML loader."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from emnesy_gpu.folders import cache_dir
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.mnist.images import DataSet, Images

N_TRAIN = 60_000
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Checksums of the uncompressed files, so that either form can be checked."""

MOST_BYTES = 1 << 26
"""Of the values of a file; the largest one of MNIST has 47,040,000."""

UNSIGNED_BYTE = 0x08
"""The code of the type in the header of an IDX file."""


def load(data_dir: Path | None = None) -> DataSet:
    """Load MNIST from ``data_dir``, ``$EMNESY_DATA`` or the cache, or else fetch it from OpenML into the cache.

    Raises DataError naming the file and the cause where a file is missing or corrupt, or the download fails.
    """
    folder = find(data_dir)
    return fetch(cache_dir()) if folder is None else read(folder)


def find(data_dir: Path | None = None) -> Path | None:
    """Return the folder with MNIST files, or None where there is none.

    A folder that the caller names, as ``data_dir`` or in ``$EMNESY_DATA``, must hold them: DataError otherwise.
    """
    for origin, named in (("--data-dir", data_dir), ("EMNESY_DATA", os.environ.get("EMNESY_DATA"))):
        if named:
            folder = _folder_within(Path(named))
            if folder is None:
                raise DataError(f"{origin}={named} has no MNIST file such as MNIST/raw/{next(iter(MD5))}[.gz]")
            return folder
    return _folder_within(cache_dir())


def _folder_within(root: Path) -> Path | None:
    """Return ``root``, or MNIST/raw or raw below it as torchvision has them, if it holds any of the four files."""
    for folder in (root / "MNIST" / "raw", root / "raw", root):
        if any(_existing(folder, stem) for stem in MD5):
            return folder
    return None


def _existing(folder: Path, stem: str) -> Path | None:
    candidates = (folder / stem, folder / f"{stem}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read(folder: Path, name: str = "mnist", source: str | None = None, md5: Mapping[str, str] | None = None) -> DataSet:
    """Read and verify the four files of a folder, each plain or gzip-compressed.

    name, source: of the data set, MNIST by default. md5: the checksums of its files; None takes those of MNIST.
    """
    train, test = (
        Images(
            torch.from_numpy(read_idx(folder, f"{part}-images-idx3-ubyte", md5)),
            torch.from_numpy(read_idx(folder, f"{part}-labels-idx1-ubyte", md5)).long(),
        )
        for part in ("train", "t10k")
    )
    return DataSet(name, source or f"MNIST files in {folder}", train, test)


class Readable(Protocol):
    """A file of bytes, plain or compressed."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, fewer at the end."""


def read_idx(folder: Path, stem: str, md5: Mapping[str, str] | None = None) -> NDArray[np.uint8]:
    """Return the array in ``stem`` or ``stem.gz``, verified by its md5; DataError names the file and what is wrong.

    md5: as in ``read``.
    """
    path = _existing(folder, stem)
    if path is None:
        raise DataError(f"{folder / stem}[.gz] is missing: there are four files, which belong into one folder")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header, shape = _read_header(path, file)
            values = _read_values(path, file, math.prod(shape))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    content = header + values
    digest, expected = hashlib.md5(content, usedforsecurity=False).hexdigest(), (md5 or MD5)[stem]
    if digest != expected:
        raise DataError(f"{path} is corrupt: md5 of the content is {digest}, expected {expected}")
    return np.frombuffer(values, np.uint8).reshape(shape).copy()


def _read_header(path: Path, file: Readable) -> tuple[bytes, tuple[int, ...]]:
    """Read two zero bytes, the type, the number of dimensions, and their sizes as big-endian int32."""
    start = file.read(4)
    if len(start) < 4 or start[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise DataError(f"{path} is not an IDX file of unsigned bytes: it begins with {start.hex(' ')!r}")
    length = 4 * start[3]
    sizes = file.read(length)
    if len(sizes) < length:
        raise DataError(f"{path} is too short: {4 + len(sizes)} bytes, its header alone has {4 + length}")
    return start + sizes, struct.unpack(f">{start[3]}I", sizes)


def _read_values(path: Path, file: Readable, promised: int) -> bytes:
    """Read as many bytes as the header promises: a small compressed file may hold any number of them."""
    if promised > MOST_BYTES:
        raise DataError(
            f"{path} is not a file of MNIST: its header promises {promised} bytes, expected at most {MOST_BYTES}"
        )
    values = file.read(promised + 1)
    if len(values) != promised:
        found = f"{len(values)} bytes" if len(values) < promised else "more bytes"
        raise DataError(f"{path} has {found} of values, its header promises {promised}")
    return values


def fetch(cache: Path) -> DataSet:
    """Download OpenML's mnist_784, keep it in ``cache`` as IDX files, and read them back verified.

    OpenML keeps the images in their original order, the 60,000 training images before the 10,000 test images. In any
    other order the md5 check on reading back fails, and no file is kept.
    """
    datasets = require("sklearn.datasets")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the loader warns before each of its own retries
            bunch = datasets.fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff")
    except Exception as error:  # urllib, http, socket and scikit-learn errors have no common base
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"MNIST was not found and could not be fetched from OpenML ({reason}): "
            "give --data-dir or EMNESY_DATA, or use --data digits"
        ) from error
    pixels = np.asarray(bunch.data).astype(np.uint8).reshape(-1, 28, 28)
    classes = np.asarray(bunch.target).astype(np.uint8)
    folder = cache / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(None, N_TRAIN)), ("t10k", slice(N_TRAIN, None))):
        write_idx(folder / f"{part}-images-idx3-ubyte", pixels[rows])
        write_idx(folder / f"{part}-labels-idx1-ubyte", classes[rows])
    try:
        return read(folder)
    except DataError as error:
        for stem in MD5:
            (folder / stem).unlink()
        raise DataError(f"OpenML sent something else than MNIST: {error}") from error


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write unsigned bytes as an IDX file; a crash leaves no partial file under the final name."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(header + array.tobytes())
    os.replace(partial, path)
