"""Arrays in files of ``np.save``, which may be cut off, of another kind, or made to harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.tasks.files.errors import DataError


def read_array(path: Path) -> NDArray[Any]:
    """Return the array of integers or floats in a file, mapped into memory; DataError names what is no such file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # besides OSError and ValueError, NumPy passes on what zipfile and the parser raise
        raise DataError(f"{path} cannot be read as an array: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} must hold one array of np.save, got an archive of several")
    if array.dtype.kind not in "iuf":
        raise DataError(f"{path} must hold integers or floats, got {array.dtype}")
    return array
