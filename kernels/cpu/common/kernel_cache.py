"""Machine code on disk: found again by the next process, checked before it is used, and never in the way.

Numba keeps an index file for each kernel and a data file for each signature. Here every file starts with the SHA-256 of
the rest, so that a damaged one is compiled anew in place of being run, and a data file names the signature it belongs
to, as two processes may have written it under one name. Where nothing can be written, kernels are compiled in every
process, and one warning says what to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pickle
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

CPU_KERNELS = Path(__file__).parent.parent
DIGEST_BYTES = hashlib.sha256().digest_size
REMEDY = "set NUMBA_CACHE_DIR to a folder that can be written, and kernels are compiled once only"

_warned = False


class CheckedFile(IndexDataCacheFile):
    """The files of one kernel, with checksums."""

    def load(self, key: Any) -> Any:
        """What was saved for a signature, None if there is nothing, or nothing sound."""
        data_name = self._load_index().get(key)
        stored = None if data_name is None else self._read(self._data_path(data_name))
        if stored is None:
            return None
        saved_key, data = pickle.loads(stored)
        return data if saved_key == key else None

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def _load_index(self) -> dict[Any, str]:
        stored = self._read(self._index_path)
        if stored is None:
            return {}
        version, stamp, overloads = pickle.loads(stored)
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _write(self, path: str, content: Any) -> None:
        dumped = self._dump(content)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(dumped).digest() + dumped)

    def _read(self, path: str) -> bytes | None:
        """The content of a sound file; a damaged one is removed."""
        try:
            content = Path(path).read_bytes()
        except OSError:
            return None
        if is_sound(content):
            return content[DIGEST_BYTES:]
        with contextlib.suppress(OSError):
            Path(path).unlink()
        return None


class KernelCache(FunctionCache):
    """Numba's cache of one kernel, over checked files.

    Numba discards cached code when the file of the kernel changes, but the code contains what it calls from other files
    too: here it is discarded when any file of the CPU kernels changes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp(), sources_stamp()
        self._cache_file = CheckedFile(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:  # the disk is full, or the folder is gone or cannot be written any more
            warn_once(f"machine code of kernels could not be kept on disk: {error}")


def cache_of(function: Callable[..., Any]) -> KernelCache | NullCache:
    """The cache of a kernel, or none where there is no place for its files."""
    try:
        return KernelCache(function)
    except (RuntimeError, OSError) as error:  # Numba's "cannot cache function: no locator available"
        warn_once(f"machine code of kernels cannot be kept on disk: {error}")
        return NullCache()


def is_sound(content: bytes) -> bool:
    """Whether a file begins with the checksum of its rest."""
    return hashlib.sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]


class CacheState(NamedTuple):
    """What lies on disk. folder: the one that all files are below, empty where there is no place for any."""

    folder: str
    writable: bool
    files: int
    mebibytes: float
    damaged: int


def cache_state() -> CacheState:
    """The state of the caches of all kernels, whose modules are imported for that."""
    folders = {Path(cache.cache_path) for cache in _caches()}
    if not folders:
        return CacheState("", False, 0, 0.0, 0)
    contents = [path.read_bytes() for folder in folders for path in folder.glob("*.nb[ic]")]
    return CacheState(
        folder=os.path.commonpath(folders),
        writable=all(os.access(folder, os.W_OK) for folder in folders),
        files=len(contents),
        mebibytes=sum(map(len, contents)) / 2**20,
        damaged=sum(not is_sound(content) for content in contents),
    )


def _caches() -> Iterator[KernelCache]:
    """The cache of every kernel that has one."""
    package = __name__.removesuffix(".common.kernel_cache")
    for found in pkgutil.walk_packages([str(CPU_KERNELS)], f"{package}."):
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(getattr(value, "_cache", None), KernelCache):
                yield value._cache


def sources_stamp(folder: Path = CPU_KERNELS) -> tuple[tuple[float, int], ...]:
    """Times and sizes of all files that machine code can come from: the CPU kernels and constants of all kernels."""
    stats = [path.stat() for path in (*sorted(folder.parent.glob("*.py")), *sorted(folder.rglob("*.py")))]
    return tuple((stat.st_mtime, stat.st_size) for stat in stats)


def warn_once(finding: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"{finding}; {REMEDY}", RuntimeWarning, stacklevel=2)
