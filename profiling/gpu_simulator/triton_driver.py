"""A Triton driver whose GPU is the simulator: unchanged `kernel[grid](cpu_tensors)` compiles for sm_XX and runs here.

Triton specialises and caches as on a real device. Assembly by ptxas is skipped: a compiler hook makes the PTX itself
the binary. Host-side tensor descriptors (TMA) are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver

from profiling.gpu_simulator.decoder import Program, load_program
from profiling.gpu_simulator.device import active_gpu
from profiling.gpu_simulator.errors import UnsupportedPtx

_SHARED_PER_BLOCK = {75: 65536, 80: 166912, 86: 101376, 87: 166912, 89: 101376, 90: 232448, 100: 232448, 120: 101376}
_FIRST_DEVICE = 1000


def ptx_as_binary(*arguments: Any) -> tuple[str, str] | None:
    """Triton's hook on compiler stages: asked for a cache key, or given the stages to change."""
    if not arguments:
        return "simulator", "simulator"
    stages = arguments[1]
    stages["cubin"] = lambda source, metadata: source.encode()
    return None


class _Utils:
    """The part of the CUDA driver API that Triton's compiled kernels ask for."""

    def __init__(self, arch: int) -> None:
        self._arch = arch

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[None, Program, int, int, int]:
        """No module handle, so that nothing is unloaded later; the function handle is the decoded program."""
        if kernel[:4] == b"\x7fELF":
            raise UnsupportedPtx(f"{name} was compiled outside the simulated GPU and has no PTX")
        return None, load_program(kernel.decode(), name), 0, 0, 1024

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {
            "max_shared_mem": _SHARED_PER_BLOCK.get(self._arch, 101376),
            "max_num_regs": 65536,
            "multiprocessor_count": 108,
            "warpSize": 32,
            "sm_clock_rate": 1,
            "mem_clock_rate": 1,
            "mem_bus_width": 1,
        }

    def unload_module(self, module: object) -> None:
        pass


class _Launcher:
    """Triton calls it with the grid, bookkeeping and the kernel's arguments, constants included."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self._signature, self._metadata = source.signature, metadata

    def __call__(self, grid_x: int, grid_y: int, grid_z: int, stream: int, program: Program, *rest: Any) -> None:
        _, launch_metadata, enter_hook, exit_hook, *values = rest
        arguments = list(_flatten(self._signature.keys(), self._signature.values(), values))
        if enter_hook is not None:
            enter_hook(launch_metadata)
        if grid_x * grid_y * grid_z > 0:
            active_gpu().run(program, (grid_x, grid_y, grid_z), arguments, self._metadata)
        if exit_hook is not None:
            exit_hook(launch_metadata)


def _flatten(names: Iterable[str], types: Iterable[Any], values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Names and arguments in PTX parameter order: tuples opened, constants dropped, floats packed."""
    for name, ptx_type, value in zip(names, types, values, strict=True):
        if isinstance(ptx_type, tuple):
            yield from _flatten([f"{name}[{i}]" for i in range(len(ptx_type))], ptx_type, value)
        elif ptx_type == "constexpr":
            continue
        elif ptx_type.startswith(("tensordesc", "nvTmaDesc")):
            raise UnsupportedPtx(f"host-side tensor descriptor {name}")
        elif ptx_type in ("fp32", "fp64"):
            yield name, np.array(value, np.float32 if ptx_type == "fp32" else np.float64).tobytes()
        elif ptx_type in ("fp16", "bf16"):
            dtype = torch.float16 if ptx_type == "fp16" else torch.bfloat16
            yield name, torch.tensor(float(value), dtype=dtype).view(torch.int16).numpy().tobytes()
        else:
            yield name, 0 if value is None else value


class SimulatorDriver(DriverBase):
    """What Triton asks of a device; there is one per architecture, because Triton caches kernels by device number."""

    def __init__(self, arch: int) -> None:
        self._arch = arch
        self.utils = _Utils(arch)
        self.launcher_cls = _Launcher

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._arch, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_current_device(self) -> int:
        return _FIRST_DEVICE + self._arch

    def get_current_stream(self, device: int) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_device_capability(self, *_: object) -> tuple[int, int]:
        return divmod(self._arch, 10)

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_device_interface(self) -> Any:
        return torch.cpu

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        return torch.empty(1)

    def clear_cache(self, cache: torch.Tensor) -> None:
        pass

    def get_benchmarker(self) -> Callable[..., Any]:
        return _run_once


def _run_once(function: Callable[[], None], quantiles: Any = None, **_: Any) -> Any:
    """Autotuning runs every configuration once and ranks all equal: simulated time means nothing."""
    function()
    return 1.0 if quantiles is None else [1.0] * len(quantiles)


@contextlib.contextmanager
def active_driver(replacement: DriverBase) -> Iterator[None]:
    """Make this Triton's driver; the one before comes back afterwards. Triton has no public name for the active one."""
    previous = driver._active
    driver.set_active(replacement)
    try:
        yield
    finally:
        driver._active = previous
