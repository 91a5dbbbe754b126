"""Kernels are compiled by two decorators: for functions that Python calls, and for those that kernels call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from numba import njit

CPU_KERNELS = Path(__file__).parent.parent

lane_function = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")
"""For functions that only kernels call: no wrappers for Python, and no cache file of their own."""

inlined = njit(
    nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy", forceinline=True, _nrt=False
)
"""The same for functions that take tables: a call would pass every field of them, and count references to arrays."""


def kernel(function: Callable):
    """Compile on first use, keep the machine code on disk, and run without the GIL.

    Numba discards cached code when the file of the kernel changes, but the code contains what it calls from
    other files too: here it is discarded when any file of the CPU kernels changes.
    """
    dispatcher = njit(nogil=True, cache=True, error_model="numpy")(function)
    cache_file = getattr(dispatcher._cache, "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = (cache_file._source_stamp, sources_stamp())
    return dispatcher


def sources_stamp(folder: Path = CPU_KERNELS) -> tuple[tuple[float, int], ...]:
    """Times and sizes of all files that machine code can come from: the CPU kernels and the status codes."""
    stats = [path.stat() for path in (folder.parent / "status.py", *sorted(folder.rglob("*.py")))]
    return tuple((stat.st_mtime, stat.st_size) for stat in stats)
