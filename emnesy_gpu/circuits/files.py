"""Circuits in files: compiled once, then loaded."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu import checks
from emnesy_gpu.circuits.graph import Graph, Shape, assemble
from emnesy_gpu.circuits.readers.variables import MOST_LEAVES
from emnesy_gpu.errors import CircuitFileError
from emnesy_gpu.folders import cache_dir

VERSION = 1
ARRAYS = ("version", "shape", "given", "first", "left", "right", "notes")

UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, SyntaxError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, UnicodeError, zlib.error, struct.error),
)
"""What NumPy and zipfile raise for files of another kind."""

Folder = str | PathLike[str] | bool | None
"""A folder; True for ``circuits`` below the folder of the cache; None or False for none."""


def save(graph: Graph, path: str | PathLike[str], notes: str = "") -> None:
    """Write a circuit and some text as .npz, without pickle. The file is complete or not there at all."""
    checks.is_path("path", path)
    shape = np.array([graph.n_symbols, graph.n_values], np.int64)
    arrays = {"version": np.array(VERSION), "shape": shape, "given": np.array(graph.given, np.int64)}
    arrays |= {name: getattr(graph, name).astype(np.int32) for name in ("first", "left", "right")}
    arrays["notes"] = np.frombuffer(notes.encode(), np.uint8).astype(np.int64)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | PathLike[str]) -> tuple[Graph, str]:
    """Read the circuit and the text that ``save`` wrote.

    Raises CircuitFileError for any other file: shapes, ranges, and that no node needs itself are checked. Whether the
    circuit is decomposable and deterministic is not: see ``checks.check``.
    """
    checks.is_path("path", path)
    arrays = _read(path)
    first, left, right = (arrays[name].astype(np.int64) for name in ("first", "left", "right"))
    n_symbols, n_values = (int(size) for size in arrays["shape"])
    shape = Shape(n_symbols, n_values, tuple(arrays["given"].tolist()))
    sizes = (n_symbols, n_values, *shape.given)
    if min(sizes) < 1 or shape.n_leaves > MOST_LEAVES:
        _refuse(path, f"it has {n_symbols} symbols of {n_values} values, and labels of {shape.given} values")
    n_rows = shape.n_leaves + len(first)
    if len(first) < 2 or first[0] != 0 or first[-1] != len(left) or (np.diff(first) < 1).any():
        _refuse(path, "its nodes do not divide its terms")
    for rows in (left, right):
        if len(rows) != len(left) or rows.min() < 0 or rows.max() >= n_rows:
            _refuse(path, f"its terms name rows outside 0..{n_rows - 1}")
    try:
        return assemble(shape, first, left, right, n_rows - 1), bytes(arrays["notes"].astype(np.uint8)).decode()
    except ValueError as error:
        _refuse(path, str(error))


def _read(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > os.path.getsize(path):
                raise ValueError("parts that are larger than the file")
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ARRAYS if name in file}
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or "it is no .npz file of numbers"
        raise CircuitFileError(f"{path} cannot be read as a circuit: {reason}") from error
    if set(found) != set(ARRAYS):
        _refuse(path, f"it must have the arrays {', '.join(ARRAYS)}, got {', '.join(found) or 'none'}")
    if any(array.dtype.kind != "i" or array.ndim > 1 for array in found.values()):
        _refuse(path, "its arrays must hold integers in rows")
    if found["version"].shape != () or int(found["version"]) != VERSION:
        _refuse(path, f"its version must be {VERSION}, got {found['version']}: compile the circuit again")
    if found["shape"].shape != (2,) or any(found[name].ndim != 1 for name in ARRAYS[2:]):
        _refuse(path, "its arrays have wrong shapes")
    return found


def _refuse(path: str | PathLike[str], message: str) -> NoReturn:
    raise CircuitFileError(f"{path} is no circuit: {message}")


def cached(folder: Folder, key: bytes, make: Callable[[], Graph]) -> Graph:
    """The circuit that belongs to a key: from the folder where it is there, else made and kept there.

    key: all that the circuit depends on. Without a folder the circuit is made. Where it cannot be kept, as on a full
    disk, a RuntimeWarning says so.
    """
    if folder is None or folder is False:
        return make()
    root = cache_dir() / "circuits" if folder is True else Path(folder)
    path = root / f"{hashlib.sha256(b'%d ' % VERSION + key).hexdigest()}.npz"
    try:
        return load(path)[0]
    except CircuitFileError:
        graph = make()
    try:
        save(graph, path)
    except OSError as error:
        warnings.warn(
            f"{path} could not be written, and the circuit is not kept: {error}", RuntimeWarning, stacklevel=2
        )
    return graph
