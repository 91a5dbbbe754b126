"""CUDA C to PTX through NVRTC: plain ctypes, no driver and no GPU needed.

The library comes with the package nvidia-cuda-nvrtc or with a CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def find_nvrtc() -> str | None:
    """Path of libnvrtc, or None where it is not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or []]
    libraries = sorted(library for folder in folders for library in folder.glob("*/lib/libnvrtc.so.*"))
    usable = [library for library in libraries if ".alt." not in library.name]
    return str(usable[-1]) if usable else ctypes.util.find_library("nvrtc")


@lru_cache(maxsize=64)
def compile_cuda(source: str, arch: int = 80, options: Sequence[str] = ()) -> str:
    """PTX with line information; raises RuntimeError with the compiler's log, or when NVRTC is missing."""
    path = find_nvrtc()
    if path is None:
        raise RuntimeError("libnvrtc is not installed")
    nvrtc = _load(path)
    program = ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        flags = [f"--gpu-architecture=compute_{arch}".encode(), b"-lineinfo", *(o.encode() for o in options)]
        status = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        if status != 0:
            raise RuntimeError(_text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program))
        return _text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _load(path: str) -> ctypes.CDLL:
    """NVRTC opens its builtins by name, which outside a search path works only once they are loaded."""
    for builtins in Path(path).parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(path)


def _text(get_size: ctypes._NamedFuncPointer, get: ctypes._NamedFuncPointer, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(get_size(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(get(program, buffer))
    return buffer.value.decode()


def _check(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"NVRTC error {status}")
