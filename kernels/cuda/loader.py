"""Launches CUDA C through CuPy: compiled at the first launch, run on torch's current stream, unsynchronised."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from emnesy_gpu.kernels import status
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

EXTRAS = "pip install 'emnesy_gpu[cuda12]' or 'emnesy_gpu[cuda13]', after the CUDA version of torch"
Argument = torch.Tensor | int | float
"""Tensors are passed as pointers, int as C int, float as C float."""


CONSTANTS = (
    *((name, str(value)) for name, value in vars(status).items() if name.isupper()),
    ("LARGEST_LOGIT", f"{LARGEST_LOGIT}f"),
)
"""Every kernel gets the row status codes and the largest logit as macros."""


def available() -> bool:
    return torch.version.cuda is not None and importlib.util.find_spec("cupy") is not None


def launch(
    file: str,
    function: str,
    macros: Sequence[tuple[str, int | str]],
    grid: int,
    block: int,
    shared_bytes: int,
    arguments: Sequence[Argument],
) -> None:
    """Launch the function of kernels/cuda/<file> on a grid of blocks of threads."""
    cupy = _cupy()
    device = torch.cuda.current_device()
    kernel = _kernel(file, function, tuple(macros), shared_bytes, device)
    with cupy.cuda.Device(device), cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream, device):
        kernel((grid,), (block,), tuple(_as_c(argument) for argument in arguments), shared_mem=shared_bytes)


@lru_cache(maxsize=64)
def _kernel(file: str, function: str, macros: tuple[tuple[str, int | str], ...], shared_bytes: int, device: int) -> Any:
    cupy = _cupy()
    with cupy.cuda.Device(device):
        kernel = cupy.RawModule(code=source(file), options=compiler_options(macros)).get_function(function)
        kernel.max_dynamic_shared_size_bytes = shared_bytes
    return kernel


def source(file: str) -> str:
    return Path(__file__).with_name(file).read_text()


def compiler_options(macros: Sequence[tuple[str, int | str]]) -> tuple[str, ...]:
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in (*CONSTANTS, *macros)))


def _cupy() -> Any:
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"CUDA C kernels need CuPy, which is not installed: {EXTRAS}", name="cupy") from error
    return cupy


def _as_c(argument: Argument) -> Any:
    import numpy as np

    if isinstance(argument, torch.Tensor):
        return argument.data_ptr()
    return np.int32(argument) if isinstance(argument, int) else np.float32(argument)
