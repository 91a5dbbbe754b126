"""Kernels are compiled by two decorators: for functions that Python calls, and for those that kernels call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from numba import njit

from emnesy_gpu.kernels.cpu.common.kernel_cache import cache_of
from emnesy_gpu.kernels.cpu.common.parts import PartCompiler

part = partial(
    njit, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy", pipeline_class=PartCompiler
)

lane_function = part()
"""For functions that only kernels call: no wrappers for Python, and no machine code of their own."""

inlined = part(forceinline=True, _nrt=False)
"""The same for functions that take tables: a call would pass every field of them, and count references to arrays."""

table_function = part(_nrt=False)
"""The same for those that would make their callers too large."""


def kernel(function: Callable):
    """Compile on first use, keep the machine code on disk, and run without the GIL."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = cache_of(function)
    return dispatcher
