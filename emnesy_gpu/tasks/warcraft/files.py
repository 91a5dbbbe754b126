"""Files of Warcraft maps with their cheapest paths: the published ones, and others in the same layout."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emnesy_gpu.folders import cache_dir
from emnesy_gpu.problems.shortest_path import TERRAIN
from emnesy_gpu.tasks.files.arrays import read_array
from emnesy_gpu.tasks.files.data_folders import GENERATOR, read_generator
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.warcraft.maps import TILE, MapData, Maps

FOLDER = "warcraft_shortest_path_oneskin"
PARTS = ("train", "val", "test")
MD5 = {
    (12, "train_maps.npy"): "c31760c5fbd9d034b6e21a6612895e69",
    (12, "train_vertex_weights.npy"): "761cc8098730504335efdefec3b221a6",
    (12, "train_shortest_paths.npy"): "1483015985796f3bf9f3e5e00cb8e855",
    (12, "test_maps.npy"): "a5c50ae11e4bd01cb1a2cd76e5849b22",
    (12, "test_vertex_weights.npy"): "071dbcf2aa9d98fc255abdcb780151b1",
    (12, "test_shortest_paths.npy"): "deae60b10d932e2a37271df4b44e295d",
}
"""Checksums of published files; the files of other sizes and of validation were published without."""

TENTHS = np.array([round(10 * cost) for cost in TERRAIN])
"""The cost of every class in tenths."""
HALF_PRECISION = 0.05
"""Tenths by which a stored cost may be off: float16 is off by 0.031 at most, at 9.2."""


def find(size: int, data_dir: Path | None = None) -> Path | None:
    """Return the folder with the files of a size, or None; a folder that ``data_dir`` names must hold them."""
    roots = [data_dir] if data_dir else [Path(os.environ.get("EMNESY_DATA") or cache_dir()), cache_dir()]
    name = f"{size}x{size}"
    for root in roots:
        for folder in (root / FOLDER / name, root / name, root):
            if any((folder / f"train_maps{part}.npy").is_file() for part in ("", "_part0")):
                return folder
    if data_dir:
        raise DataError(f"--data-dir={data_dir} has no {FOLDER}/{name}/train_maps.npy or train_maps_part0.npy")
    return None


def read(folder: Path, size: int, n_maps: int | None = None) -> MapData:
    """Read the files of one size; DataError names the file and what is wrong with it.

    n_maps: training maps to read, the first ones; None reads all. Published checksums are verified where there are any:
    a file that differs makes the origin "unverified".
    """
    parts = [_read_part(folder, part, size, n_maps if part == "train" else None) for part in PARTS]
    origin = "synthetic" if read_generator(folder) == GENERATOR else "original"
    if origin == "original" and not _published(folder, size):
        origin = "unverified"
    return MapData(size, "files", origin, f"Warcraft maps {size}x{size}, {origin} files in {folder}", *parts)


def write(data: MapData, root: Path) -> Path:
    """Write maps in the layout of the published files below ``root``; returns their folder.

    ``options.json`` names the generator, so that ``read`` knows synthetic maps.
    """
    folder = root / FOLDER / f"{data.size}x{data.size}"
    folder.mkdir(parents=True, exist_ok=True)
    for part, maps in zip(PARTS, (data.train, data.valid, data.test), strict=True):
        weights = torch.tensor(TERRAIN, dtype=torch.float16)[maps.classes.long()]
        for name, array in (("maps", maps.pixels), ("vertex_weights", weights), ("shortest_paths", maps.paths)):
            np.save(folder / f"{part}_{name}.npy", array.numpy())
    options = {"generator": GENERATOR, "origin": data.origin, "size": data.size, "source": data.source}
    (folder / "options.json").write_text(json.dumps(options, indent=4) + "\n")
    return folder


def _read_part(folder: Path, part: str, size: int, n_maps: int | None) -> Maps:
    side = TILE * size
    pixels = _read_array(folder, f"{part}_maps", (side, side, 3), n_maps)
    if pixels.dtype != np.uint8:
        raise DataError(f"{folder / part}_maps.npy must hold bytes, got {pixels.dtype}")
    weights = _read_array(folder, f"{part}_vertex_weights", (size, size), n_maps)
    paths = _read_array(folder, f"{part}_shortest_paths", (size, size), n_maps)
    if not len(pixels) == len(weights) == len(paths):
        counts = f"{len(pixels)} maps, {len(weights)} weights and {len(paths)} paths"
        raise DataError(f"{folder} has {counts} of part {part}")
    if paths.dtype.kind not in "iu":
        raise DataError(f"{folder / part}_shortest_paths.npy must hold integers, got {paths.dtype}")
    if not np.isin(paths, (0, 1)).all() or not (paths[:, 0, 0] & paths[:, -1, -1]).all():
        raise DataError(f"{folder / part}_shortest_paths.npy must hold masks of 0 and 1 with both corners on the path")
    classes = _classes(weights, f"{folder / part}_vertex_weights.npy")
    return Maps(*(torch.from_numpy(array) for array in (pixels, classes, paths.astype(np.uint8))))


def _read_array(folder: Path, stem: str, shape: tuple[int, ...], n_maps: int | None) -> NDArray[Any]:
    """Return the first ``n_maps`` rows of ``stem.npy``, or of its halves ``stem_part0.npy`` and ``stem_part1.npy``."""
    parts = sorted(folder.glob(f"{stem}_part*.npy"))
    paths = [folder / f"{stem}.npy"] if (folder / f"{stem}.npy").is_file() or not parts else parts
    arrays, missing = [], n_maps
    for path in paths:
        array = read_array(path)
        if array.ndim == 0 or array.shape[1:] != shape or len(array) == 0:
            raise DataError(f"{path} has shape {list(array.shape)}, expected {['n', *shape]}")
        arrays.append(np.array(array[:missing]))
        missing = None if missing is None else missing - len(arrays[-1])
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _classes(weights: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return the classes of stored costs, which half precision has moved a little."""
    with np.errstate(over="ignore"):
        stored = 10.0 * weights.astype(np.float32)
    classes = np.abs(stored[..., None] - TENTHS.astype(np.float32)).argmin(-1).astype(np.uint8)
    wrong = ~(np.abs(stored - TENTHS[classes]) <= HALF_PRECISION)
    if wrong.any():
        raise DataError(f"{name} must hold the costs {TERRAIN}, got {float(weights[wrong][0])}")
    return classes


def _published(folder: Path, size: int) -> bool:
    """Whether every file with a published checksum has it."""
    return all(
        file_digest(folder / name) == digest
        for (of_size, name), digest in MD5.items()
        if of_size == size and (folder / name).is_file()
    )


def file_digest(path: Path) -> str:
    """Return the md5 of a file."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
