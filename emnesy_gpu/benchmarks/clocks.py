"""Three clocks for one call: how long its kernels run, how long it takes, and how long it holds up the host.

    kernel     time that the device spends in kernels, gaps excluded: what a better kernel would change
    operator   wall time from an idle device to an idle device: what a single call costs
    host       wall time until the call returns: what the call costs a loop that keeps the device busy

For short kernels operator and host are dominated by launching; only the kernel clock then says anything about the
kernel. Repeated calls find their inputs in the L2 cache if these fit into it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from emnesy_gpu.benchmarks.measure import machine, median_seconds, peak_bytes
from emnesy_gpu.doctor import driver_version

MIB = 2.0**20


@dataclass(frozen=True)
class Clocks:
    """Seconds per call; ``kernel`` is None on a CPU, and where the device's activity cannot be traced."""

    kernel: float | None
    operator: float
    host: float


def read_clocks(call: Callable[[], object], device: torch.device, budget: float = 0.5) -> Clocks:
    """All three clocks of a call; ``operator`` and ``host`` are medians within ``budget`` seconds each."""
    return Clocks(
        kernel=kernel_seconds(call, device) if device.type == "cuda" else None,
        operator=median_seconds(call, device, budget),
        host=host_seconds(call, device, budget),
    )


def host_seconds(call: Callable[[], object], device: torch.device, budget: float = 0.5, least_runs: int = 5) -> float:
    """Median time until the call returns. The device is idle before each run, so that no full queue blocks it."""
    _synchronise(device)
    seconds: list[float] = []
    stop = time.perf_counter() + budget
    while len(seconds) < least_runs or (time.perf_counter() < stop and len(seconds) < 1000):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        _synchronise(device)
    return statistics.median(seconds)


def kernel_seconds(call: Callable[[], object], device: torch.device, calls: int = 20) -> float | None:
    """Mean time per call that the device spends in kernels, from the profiler's trace of the device."""
    from torch.profiler import ProfilerActivity, profile

    _synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(calls):
            call()
        _synchronise(device)
    return mean_device_seconds(trace.key_averages(), calls)


def mean_device_seconds(events: Iterable[Any], calls: int) -> float | None:
    """Per call, the time of all events on the device; None if there are none. The profiler gives microseconds."""
    microseconds = sum(e.self_device_time_total for e in events if e.device_type != torch.autograd.DeviceType.CPU)
    return microseconds * 1e-6 / calls if microseconds > 0 else None


def extra_info(call: Callable[[], object], device: torch.device, budget: float = 0.1) -> dict[str, object]:
    """What a benchmark record carries beside its timing: clocks in us, peak MiB above the inputs, and the machine."""
    clocks = read_clocks(call, device, budget)
    peak = peak_bytes(call, device) if device.type == "cuda" else None
    return {
        **machine(device),
        "driver": driver_version(),
        "kernel_us": None if clocks.kernel is None else clocks.kernel * 1e6,
        "operator_us": clocks.operator * 1e6,
        "host_us": clocks.host * 1e6,
        "peak_mib": None if peak is None else peak / MIB,
    }


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
