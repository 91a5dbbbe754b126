"""Three clocks for one call: the time in its kernels, the time of the call, and the time that it takes of the host.

    kernel     time that the device spends in kernels, without gaps: a better kernel changes it
    operator   wall time from an idle device to an idle device: the cost of a single call
    host       wall time until the call returns: the cost of the call in a loop that keeps the device busy

For short kernels the launch dominates operator and host, and only the kernel clock tells something about the kernel.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from emnesy_gpu.benchmarks.measure import machine, median_seconds, peak_bytes
from emnesy_gpu.doctor import driver_version

MIB = 2.0**20
SHORT = 1e-3
"""Seconds of a call of which the profiler traces TRACED calls; of longer ones, which launch more, it traces 2."""

TRACED = 20
the_driver_version = functools.cache(driver_version)


@dataclass(frozen=True)
class Clocks:
    """Seconds per call; ``kernel`` is None on a CPU, and where the profiler cannot trace the device."""

    kernel: float | None
    operator: float
    host: float


def read_clocks(call: Callable[[], object], device: torch.device, budget: float = 0.5) -> Clocks:
    """Read all three clocks of a call; ``operator`` and ``host`` are medians over ``budget`` seconds each."""
    operator = median_seconds(call, device, budget)
    calls = TRACED if operator < SHORT else 2
    return Clocks(
        kernel=kernel_seconds(call, device, calls) if device.type == "cuda" else None,
        operator=operator,
        host=host_seconds(call, device, budget),
    )


def host_seconds(call: Callable[[], object], device: torch.device, budget: float = 0.5, least_runs: int = 5) -> float:
    """The median time until the call returns; the device is idle before each run, so that no full queue blocks it."""
    _synchronise(device)
    seconds: list[float] = []
    stop = time.perf_counter() + budget
    while len(seconds) < least_runs or (time.perf_counter() < stop and len(seconds) < 1000):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        _synchronise(device)
    return statistics.median(seconds)


def kernel_seconds(call: Callable[[], object], device: torch.device, calls: int = TRACED) -> float | None:
    """The mean time per call that the device spends in kernels, by the trace of the profiler."""
    from torch.profiler import ProfilerActivity, profile

    _synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(calls):
            call()
        _synchronise(device)
    return mean_device_seconds(trace.key_averages(), calls)


def mean_device_seconds(events: Iterable[Any], calls: int) -> float | None:
    """The time per call of all events on the device, which the profiler gives in microseconds; None without events."""
    microseconds = sum(e.self_device_time_total for e in events if e.device_type != torch.autograd.DeviceType.CPU)
    return microseconds * 1e-6 / calls if microseconds > 0 else None


def extra_info(call: Callable[[], object], device: torch.device, budget: float = 0.1) -> dict[str, object]:
    """Facts for a benchmark record beside its timing: clocks in us, peak MiB above the inputs, and the machine."""
    clocks = read_clocks(call, device, budget)
    peak = peak_bytes(call, device) if device.type == "cuda" else None
    return {
        **machine(device),
        "driver": the_driver_version(),
        "kernel_us": None if clocks.kernel is None else clocks.kernel * 1e6,
        "operator_us": clocks.operator * 1e6,
        "host_us": clocks.host * 1e6,
        "peak_mib": None if peak is None else peak / MIB,
    }


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
