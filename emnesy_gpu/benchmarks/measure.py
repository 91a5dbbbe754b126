"""Measurements: medians of wall time, peak memory above the inputs, and the facts of the machine."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy
import torch

from emnesy_gpu.backends import load_kernels
from emnesy_gpu.memory import PeakMemory, size_of

M_TRIM_THRESHOLD, M_MMAP_MAX, NEVER = -1, -4, -1
"""Parameters of mallopt(3), and the threshold that turns trimming off."""

GLIBC_TRIM_THRESHOLD, GLIBC_MMAP_MAX = 128 * 1024, 65536
"""Defaults of these parameters: bytes, and number of mappings."""

PR_SET_THP_DISABLE = 41
"""Option of prctl(2): huge pages would round every figure up to 2 MiB."""

TURNS = 9

PAUSE = 0.005
"""Seconds before a turn, in which the threads of another method fall asleep."""

SMAPS = "/proc/self/smaps_rollup"
"""Where Linux keeps the resident size of this process, exact to a page."""


def median_seconds(
    function: Callable[[], object], device: torch.device, budget: float = 0.5, least_runs: int = 5
) -> float:
    """The median seconds of single runs after two warm-up runs; the device is idle at both ends of a run."""
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
    """Seconds on the clock once the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def medians_in_turns(
    methods: Mapping[str, Callable[[], object]], budget: float = 0.05, n_turns: int = TURNS
) -> dict[str, float]:
    """Seconds of CPU time of one call of each method, medians of some turns, in which all methods follow each other.

    CPU time is that of all threads of the process: a method does not gain from threads, and does not lose where the
    machine has other work. budget: seconds of all turns of one method; a turn has one call at least.
    """
    repeats = {}
    for name, call in methods.items():
        call()
        repeats[name] = 1 + int(budget / n_turns / max(_cpu_seconds(call, 1), 1e-9))
    turns = [{name: _cpu_seconds(call, repeats[name]) for name, call in methods.items()} for _ in range(n_turns)]
    return {name: statistics.median(turn[name] for turn in turns) for name in methods}


def _cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    time.sleep(PAUSE)
    call()
    start = time.process_time_ns()
    for _ in range(repeats):
        call()
    return (time.process_time_ns() - start) * 1e-9 / repeats


def peak_bytes(function: Callable[[], object], device: torch.device, plain_torch: bool = False) -> int | None:
    """The most memory in use during a call beyond what was in use before it; None where it cannot be read.

    The allocator of PyTorch tells it on CUDA, and on a CPU where the call is ``plain_torch``, which uses no memory but
    tensors. Otherwise (glibc on Linux) it is the size of the pages that a call touches while no freed memory returns to
    the system. This is exact for a few large buffers; with many small ones the holes between them count as well. The
    peak of the resident size that the system keeps would be off by up to 128 KiB per core.
    """
    function()
    if device.type == "cuda":
        memory = PeakMemory(device)
        function()
        return memory.bytes()
    return _peak_of_tensors(function) if plain_torch else _touched_bytes(function)


def _touched_bytes(function: Callable[[], object]) -> int | None:
    if not Path(SMAPS).exists():
        return None
    libc = ctypes.CDLL(None)
    with _freed_memory_kept(libc):
        function()
        load_kernels("cpu", "common.lane_scratch").forget_scratch()
        libc.malloc_trim(0)
        before = size_of("Rss", SMAPS)
        function()
        return size_of("Rss", SMAPS) - before


def keep_freed_memory() -> None:
    """Keep freed memory from returning to the system, where malloc is that of glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)


@contextlib.contextmanager
def _freed_memory_kept(libc: ctypes.CDLL) -> Iterator[None]:
    """Keep it for a while; later peaks need the defaults of glibc, set at the end."""
    keep_freed_memory()
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, GLIBC_MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, GLIBC_TRIM_THRESHOLD)
        libc.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)
        libc.malloc_trim(0)


def _peak_of_tensors(function: Callable[[], object]) -> int:
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with tempfile.TemporaryDirectory() as folder, _no_standard_error():
        with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
            function()
        trace = Path(folder, "trace.json")
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    steps = sorted((event for event in events if event["name"] == "[memory]"), key=itemgetter("ts"))
    return max(accumulate((step["args"]["Bytes"] for step in steps), initial=0))


@contextlib.contextmanager
def _no_standard_error() -> Iterator[None]:
    """Silence standard error, where the profiler reports its start and its end without Python."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def free_bytes(device: torch.device) -> float:
    """The bytes of memory that a call may use; inf where they cannot be read."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError):
        return size_of("MemAvailable", "/proc/meminfo")
    return float("inf")


def in_child(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], lost: Any) -> Iterator[Any]:
    """Yield function(*call) for every call, run in turn in a child process; ``lost`` where the child is killed."""
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
    """The facts of device, CPU and versions that a reader needs to compare the figures."""
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
