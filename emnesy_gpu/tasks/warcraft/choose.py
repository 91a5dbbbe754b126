"""The choice between the published maps and synthetic ones."""

from __future__ import annotations

from pathlib import Path

from emnesy_gpu.folders import cache_dir
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.warcraft import files, synthetic
from emnesy_gpu.tasks.warcraft.maps import MapData
from emnesy_gpu.tasks.warcraft.settings import CHOICES, SIZES


def load(size: int, data: str, data_dir: Path | None = None, n_maps: int | None = None) -> MapData:
    """Load "files", "synthetic", or "auto": files where they are found, else synthetic maps.

    n_maps: number of training maps, which are the first ones; None takes all files, and as many synthetic maps as suit
    the size.
    """
    if size not in SIZES:
        raise DataError(f"Warcraft maps have size {', '.join(map(str, SIZES))}, not {size}")
    if data not in CHOICES:
        raise DataError(f"unknown maps {data!r}: choose {', '.join(CHOICES)}")
    folder = None if data == "synthetic" else files.find(size, data_dir)
    if folder is not None:
        return files.read(folder, size, n_maps)
    if data == "files":
        raise DataError(
            f"no {files.FOLDER}/{size}x{size}/train_maps.npy below --data-dir, $EMNESY_DATA or {cache_dir()}: unpack "
            "warcraft_maps.tar.gz (doi 10.17617/3.YJCQ5S) there"
        )
    return synthetic.generate(size, n_maps)
