"""The simulated GPU as a device that runs decoded programs on CPU tensors.

A launch that fails a check raises and leaves the tensors as they were; one that fails for races is recorded too.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from profiling.gpu_simulator.decoder import Program
from profiling.gpu_simulator.errors import SimulationError
from profiling.gpu_simulator.launch import DEFAULT_OPTIONS, LaunchRecord, Options, Scalar, run_program
from profiling.gpu_simulator.memory import GlobalMemory

GRID_LIMITS = (2**31 - 1, 65535, 65535)


@dataclass
class SimulatedGpu:
    """What ran inside `simulated_gpu`, oldest launch first. `options` may be changed between launches."""

    arch: int
    options: Options = DEFAULT_OPTIONS
    launches: list[LaunchRecord] = field(default_factory=list)

    def run(
        self, program: Program, grid: tuple[int, int, int], arguments: list[tuple[str, Any]], metadata: Any
    ) -> None:
        """Launch with named tensors and scalars in parameter order."""
        if any(size > limit for size, limit in zip(grid, GRID_LIMITS, strict=True)):
            raise SimulationError(f"grid {grid} of {metadata.name} exceeds {GRID_LIMITS}")
        buffers = _DeviceCopies(arguments)
        scalars = buffers.arguments()
        n_ctas = grid[0] * grid[1] * grid[2]
        if metadata.global_scratch_size:
            n_bytes = n_ctas * metadata.global_scratch_size
            scalars.append(buffers.memory.allocate("global scratch", np.zeros(n_bytes, np.uint8)))
        block = (metadata.num_warps * 32, 1, 1)
        record = run_program(program, grid, block, scalars, buffers.memory, metadata.shared, self.options)
        self.launches.append(replace(record, name=metadata.name))
        record.require_no_races()
        buffers.copy_back()


class _DeviceCopies:
    """The storages of the tensor arguments in device memory, with only the bytes of the tensors open to access."""

    def __init__(self, arguments: list[tuple[str, Any]]) -> None:
        self.memory = GlobalMemory()
        self._values = [value for _, value in arguments]
        self._storages: dict[int, tuple[int, np.ndarray]] = {}
        spans: dict[int, list[tuple[str, int, int]]] = {}
        sizes: dict[int, int] = {}
        for name, tensor in arguments:
            if isinstance(tensor, torch.Tensor):
                if tensor.device.type != "cpu":
                    raise ValueError(f"the simulated GPU takes CPU tensors, {name} is on {tensor.device}")
                storage = tensor.untyped_storage()
                first = tensor.data_ptr() - storage.data_ptr()
                span = (name, first, first + _extent_bytes(tensor))
                spans.setdefault(storage.data_ptr(), []).append(span)
                sizes[storage.data_ptr()] = storage.nbytes()
        for pointer, n_bytes in sizes.items():
            raw = _host_bytes(pointer, n_bytes)
            address = self.memory.allocate("", raw, misalignment=pointer % 16, spans=_merge_spans(spans[pointer]))
            self._storages[pointer] = (address, raw)

    def arguments(self) -> list[Scalar]:
        return [self._address(a) if isinstance(a, torch.Tensor) else a for a in self._values]

    def _address(self, tensor: torch.Tensor) -> int:
        pointer = tensor.untyped_storage().data_ptr()
        return self._storages[pointer][0] + tensor.data_ptr() - pointer

    def copy_back(self) -> None:
        """Only what changed: inputs may be read-only."""
        for address, raw in self._storages.values():
            data = self.memory.data(address, raw.size)
            if not np.array_equal(raw, data):
                raw[:] = data


def _host_bytes(pointer: int, n_bytes: int) -> np.ndarray:
    if n_bytes == 0:
        return np.empty(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(pointer))


def _extent_bytes(tensor: torch.Tensor) -> int:
    """Bytes from the first to the last element; gaps of strided views count as inside."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def _merge_spans(spans: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Overlapping views of one storage become one span, so that every byte has one race record."""
    merged: list[tuple[str, int, int]] = []
    for name, first, end in sorted(spans, key=lambda span: span[1]):
        if merged and first < merged[-1][2]:
            previous = merged.pop()
            names = previous[0] if name in previous[0] else f"{previous[0]} / {name}"
            merged.append((names, previous[1], max(previous[2], end)))
        else:
            merged.append((name, first, end))
    return merged


_active: list[SimulatedGpu] = []


def active_gpu() -> SimulatedGpu:
    """The innermost simulated GPU; compiled kernels are cached by Triton and outlive the one they were built for."""
    if not _active:
        raise RuntimeError("a kernel compiled for the simulated GPU was launched outside simulated_gpu()")
    return _active[-1]


@contextlib.contextmanager
def activated(gpu: SimulatedGpu) -> Iterator[SimulatedGpu]:
    """Make this the active GPU."""
    _active.append(gpu)
    try:
        yield gpu
    finally:
        _active.pop()
