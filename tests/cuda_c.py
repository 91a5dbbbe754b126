"""Runs CUDA C in the simulator, in place of CuPy and a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import Tensor

from emnesy_gpu.kernels.cuda import loader
from profiling.gpu_simulator import LaunchRecord, Options, launch
from profiling.gpu_simulator.nvrtc import compile_cuda, find_nvrtc
from tests.static_checks import registers_and_spills

needs_nvrtc = pytest.mark.skipif(find_nvrtc() is None, reason="needs libnvrtc: pip install nvidia-cuda-nvrtc")


def ptx(file: str, macros: Sequence[tuple[str, int]], arch: int = 80) -> str:
    return compile_cuda(loader.source(file), arch, loader.compiler_options(macros))


def assembled(text: str) -> tuple[int, int]:
    """Registers a thread and spilled bytes; skips where NVRTC is newer than the assembler of this Triton."""
    try:
        return registers_and_spills(text)
    except RuntimeError as error:
        if "Unsupported .version" not in str(error):
            raise
        pytest.skip("NVRTC is newer than the assembler of this Triton")


def simulate_launches(patch: pytest.MonkeyPatch, options: Options = Options()) -> list[LaunchRecord]:  # noqa: B008
    """The loader's launches run in the simulator; the list fills with them."""
    records = []

    def launch_simulated(
        file: str,
        function: str,
        macros: Sequence[tuple[str, int]],
        grid: int,
        block: int,
        shared_bytes: int,
        arguments: Sequence[Tensor | int | float],
    ) -> None:
        values = [argument.numpy() if isinstance(argument, Tensor) else argument for argument in arguments]
        record = launch(
            ptx(file, macros), (grid,), (block,), values, name=function, dynamic_shared_bytes=shared_bytes,
            options=options,
        )  # fmt: skip
        record.require_no_races()
        records.append(record)

    patch.setattr(loader, "launch", launch_simulated)
    return records
