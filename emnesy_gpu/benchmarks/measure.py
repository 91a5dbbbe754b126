"""Medians of wall time, peak memory above the inputs, and the machine they were measured on."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch

from emnesy_gpu.memory import PeakMemory, size_of

M_MMAP_THRESHOLD = -3
SMALL_ALLOCATION = 64 * 1024


def median_seconds(
    function: Callable[[], object], device: torch.device, budget: float = 0.5, least_runs: int = 5
) -> float:
    """The median of single runs after two warm-up runs, with the device idle at both ends."""
    for _ in range(2):
        function()
    seconds: list[float] = []
    stop = time.perf_counter() + budget
    while len(seconds) < least_runs or (time.perf_counter() < stop and len(seconds) < 1000):
        start = now(device)
        function()
        seconds.append(now(device) - start)
    return statistics.median(seconds)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_bytes(function: Callable[[], object], device: torch.device) -> int | None:
    """The most memory in use during a call beyond what was in use before it; None where it cannot be read.

    On a CPU: the peak resident size of this process (Linux), with allocations above 64 KiB returned to the system at
    once, so that the difference counts every buffer, whoever allocated it.
    """
    function()
    if device.type == "cpu":
        if platform.system() != "Linux":
            return None
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, SMALL_ALLOCATION)
        function()
        libc.malloc_trim(0)
    memory = PeakMemory(device)
    function()
    return memory.bytes()


def free_bytes(device: torch.device) -> float:
    """Memory that a call may use; inf where it cannot be read."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError):
        return size_of("MemAvailable", "/proc/meminfo")
    return float("inf")


def in_child(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], lost: Any) -> Iterator[Any]:
    """function(*call) for every call, one after the other in a process of their own; ``lost`` where it is killed."""
    new_pool = partial(ProcessPoolExecutor, 1, multiprocessing.get_context("spawn"))
    pool = new_pool()
    try:
        for call in calls:
            try:
                result = pool.submit(function, *call).result()
            except BrokenProcessPool:
                pool, result = new_pool(), lost
            yield result
    finally:
        pool.shutdown()


def machine(device: torch.device) -> dict[str, object]:
    """What a reader needs to place the figures."""
    facts: dict[str, object] = {
        "device": str(device),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    for name in ("numba", "triton"):
        with contextlib.suppress(ImportError):
            facts[name] = __import__(name).__version__
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
