"""What a GPU reaches: rates against its peaks, and every launch of the GPU tests against its modelled time.

    python -m tests.kernel_calibration --json calibration.json --markdown calibration.md
    python -m tests.kernel_calibration --from calibration.json         the tables of recorded figures, without a GPU

Rates: bytes copied per second, read and written; multiply-adds, powers of two and integer operations of a thread, and
bytes read from shared memory, per second over the whole GPU (rates.cu, through CuPy); and seconds of a launch. The
model (roofline.py) takes the peaks of an H100 instead. *Calibrated* is the modelled time with the measured rate of the
unit that limits it; *measured / calibrated* is then what latency, occupancy and tails cost, which nothing here models.
Measured are the kernels of one call, per row, with the rows of the launch repeated until they fill the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from emnesy_gpu.benchmarks.clocks import kernel_seconds
from profiling import peaks
from profiling.exports import Row, markdown

SOURCE = Path(__file__).with_name("rates.cu")
THREADS = 256
PER_TURN = 32
"""Instructions of a thread in each turn of a loop of rates.cu."""

TURNS = 2000
BLOCKS_PER_SM = 8
COPIED = 1 << 30
"""Bytes that are copied: far more than a cache holds."""


class Rate(NamedTuple):
    """A loop of rates.cu, the units of its instructions, and the limit of the model that it calibrates."""

    limit: str
    function: str
    per_instruction: int
    unit: str
    peak: Callable[[peaks.Gpu], float]


RATES = (
    Rate("fp32", "fma_rate", 1, "multiply-adds / s", lambda gpu: gpu.fp32_lanes * gpu.cycles),
    Rate("special", "ex2_rate", 1, "powers / s", lambda gpu: peaks.SPECIAL_LANES * gpu.cycles),
    Rate("alu", "alu_rate", 1, "integer operations / s", lambda gpu: peaks.ALU_LANES * gpu.cycles),
    Rate("L1", "shared_rate", 16, "bytes / s", lambda gpu: peaks.L1_BYTES * gpu.cycles),
)
SAME_RATE = {"issue": "fp32"}
"""Limit -> the limit whose loop measures it too: multiply-adds of 128 lanes take all issue slots."""


def gpu_of(name: str) -> peaks.Gpu | None:
    """The peaks of a GPU by the name that its driver gives."""
    return next((gpu for gpu in peaks.GPUS.values() if gpu.name in name), None)


def measure_rates(device: torch.device) -> list[Row]:
    """One row for each rate, with the peak where the GPU is known; None for what needs CuPy, where that is absent."""
    gpu = gpu_of(torch.cuda.get_device_name(device))
    rows = [_row("memory", copy_rate(device), "bytes / s", gpu and gpu.bandwidth)]
    rows += [_row(rate.limit, loop_rate(rate, device), rate.unit, gpu and rate.peak(gpu)) for rate in RATES]
    return [*rows, _row("launch", launch_seconds(device), "s", None)]


def _row(limit: str, measured: float | None, unit: str, peak: float | None) -> Row:
    share = None if measured is None or peak is None else measured / peak
    return {"rate": limit, "unit": unit, "measured": measured, "peak": peak, "measured / peak": share}


def copy_rate(device: torch.device) -> float | None:
    source = torch.empty(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = kernel_seconds(lambda: target.copy_(source), device)
    return None if seconds is None else 2 * COPIED / seconds


def launch_seconds(device: torch.device, launches: int = 2000) -> float:
    """The time of one of many launches that wait for nothing: of torch, the host's or the device's."""
    number = torch.zeros(1, device=device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    number.add_(1)
    start.record()
    for _ in range(launches):
        number.add_(1)
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) * 1e-3 / launches


def loop_rate(rate: Rate, device: torch.device) -> float | None:
    try:
        import cupy
    except ModuleNotFoundError:
        return None
    blocks = BLOCKS_PER_SM * torch.cuda.get_device_properties(device).multi_processor_count
    out = torch.zeros(1, device=device)
    kernel = cupy.RawModule(code=SOURCE.read_text(), options=("-std=c++17",)).get_function(rate.function)
    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream)

    def call() -> None:
        with stream:
            kernel((blocks,), (THREADS,), (out.data_ptr(), cupy.int32(TURNS)))

    call()
    seconds = kernel_seconds(call, device)
    return None if seconds is None else work_of(rate, blocks, TURNS) / seconds


def work_of(rate: Rate, blocks: int, turns: int) -> float:
    """Units of a launch of the loop."""
    return float(rate.per_instruction * PER_TURN * turns * THREADS * blocks)


def calibrated(measured: Sequence[Row], rates: Sequence[Row], modelled: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Entries with the times of the model (``nanoseconds`` a row, ``limit``, ``gpu`` whose peaks it took)."""
    found = {str(row["rate"]): row["measured"] for row in rates}
    return [_compared(row, modelled[str(row["entry"])], found) for row in measured if str(row["entry"]) in modelled]


def _compared(row: Row, model: Mapping[str, Any], rates: Mapping[str, Any]) -> Row:
    gpu, limit, ns = peaks.GPUS[model["gpu"]], model["limit"], float(model["nanoseconds"])
    reached = rates.get(SAME_RATE.get(limit, limit))
    peak = peak_of(gpu, limit)
    with_rates = None if reached is None or peak is None else ns * peak / reached
    time = row["ns a row"]
    return {
        "entry": row["entry"],
        "rows": row["rows"],
        "limit": limit,
        f"modelled ns, {gpu.name}": ns,
        "calibrated ns": with_rates,
        "measured ns": time,
        "measured / modelled": _ratio(time, ns),
        "measured / calibrated": _ratio(time, with_rates),
        "error": row.get("error"),
    }


def peak_of(gpu: peaks.Gpu, limit: str) -> float | None:
    """What the loop of a limit would measure at the peak."""
    if limit == "memory":
        return gpu.bandwidth
    return next((rate.peak(gpu) for rate in RATES if rate.limit == SAME_RATE.get(limit, limit)), None)


def _ratio(time: Any, other: float | None) -> float | None:
    return None if time is None or other is None else float(time) / other


def report(gpu: str, rates: Sequence[Row], rows: Sequence[Row]) -> str:
    """Both tables as Markdown; the slowest against its model first."""
    worst = sorted(rows, key=lambda row: -(row["measured / modelled"] or 0.0))  # type: ignore[operator]
    tables = f"## Rates\n\n{markdown(rates)}\n\n## Launches, per row\n\n{markdown(worst)}"
    return f"# Calibration, measured on {gpu}\n\n{tables}\n"
