"""Memory, utilisation, power and energy of the E-step: NVML beside the allocator of PyTorch.

    python -m profiling.memory --digits 15 --batch 1024 --seconds 2 --json memory.json --markdown memory.md

On a CUDA device each method runs back to back for some seconds while a thread samples NVML (nvidia-ml-py) every few
milliseconds. NVML sees the whole device: the context, the caching allocator's reserve and other processes count; the
allocator's peak counts the tensors of one call above its inputs. Energy per E-step is the difference of NVML's energy
counter over the run, idle power included, divided by the number of E-steps. On a CPU: the peak of one call above its
inputs, and the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from emnesy_gpu.benchmarks import addition
from emnesy_gpu.benchmarks.measure import machine, peak_bytes
from profiling.exports import Row, markdown

MIB = 2.0**20
SAMPLING_SECONDS = 0.005
NO_NVML = "nvidia-ml-py is not installed: pip install nvidia-ml-py"


class Sampler:
    """Samples of one device while the context is open, and the energy spent in it.

    Attributes:
        used: bytes; utilisation: per cent of the last interval of the driver; power: watts; one entry per sample.
        joules: the difference of the energy counter, None on devices without one (before Volta).
    """

    def __init__(self, nvml: Any, handle: Any, interval: float = SAMPLING_SECONDS) -> None:
        self._nvml, self._handle, self._interval = nvml, handle, interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.used: list[int] = []
        self.utilisation: list[int] = []
        self.power: list[float] = []
        self.joules: float | None = None

    def __enter__(self) -> Sampler:
        self._start = self._energy()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        end = self._energy()
        if self._start is not None and end is not None:
            self.joules = end - self._start

    def _run(self) -> None:
        while True:
            self._sample()
            if self._done.wait(self._interval):
                return

    def _sample(self) -> None:
        nvml, handle = self._nvml, self._handle
        self.used.append(nvml.nvmlDeviceGetMemoryInfo(handle).used)
        self.utilisation.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        self.power.append(nvml.nvmlDeviceGetPowerUsage(handle) / 1e3)

    def _energy(self) -> float | None:
        try:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3
        except self._nvml.NVMLError:
            return None


def open_nvml(device: torch.device) -> tuple[ModuleType, Any]:
    """NVML and its handle of a CUDA device, found by UUID: NVML does not know CUDA_VISIBLE_DEVICES."""
    import pynvml

    pynvml.nvmlInit()
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")


def on_gpu(call: Callable[[], object], device: torch.device, seconds: float, nvml: Any, handle: Any) -> Row:
    """One method for ``seconds`` seconds, after a warm-up call."""
    peak = peak_bytes(call, device)
    torch.cuda.synchronize(device)
    calls, start = 0, time.perf_counter()
    with Sampler(nvml, handle) as samples:
        while time.perf_counter() < start + seconds:
            for _ in range(10):
                call()
            torch.cuda.synchronize(device)
            calls += 10
        elapsed = time.perf_counter() - start
    return {"allocator peak MiB": _mib(peak)} | summary(samples, calls, elapsed)


def summary(samples: Sampler, calls: int, elapsed: float) -> Row:
    return {
        "NVML used MiB, most": max(samples.used) / MIB,
        "utilisation %, median": float(statistics.median(samples.utilisation)),
        "power W, median": float(statistics.median(samples.power)),
        "energy mJ per call": None if samples.joules is None else samples.joules * 1e3 / calls,
        "us per call": elapsed / calls * 1e6,
    }


def on_cpu(call: Callable[[], object], device: torch.device, plain_torch: bool) -> Row:
    peak = peak_bytes(call, device, plain_torch)
    return {"peak MiB above inputs": _mib(peak), "process peak MiB": _mib(process_peak_bytes())}


def process_peak_bytes() -> int | None:
    """The most memory this process ever had resident; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _mib(n_bytes: int | None) -> float | None:
    return None if n_bytes is None else n_bytes / MIB


def measure(names: Sequence[str], n_digits: int, batch: int, seconds: float, device: torch.device) -> list[Row]:
    """One row per method of ``emnesy_gpu.benchmarks.addition``; measured, on this machine."""
    problem, logits, label = addition.inputs(n_digits, batch, device)
    calls = addition.SUITE.calls(problem, logits, label)
    rows: list[Row] = []
    nvml = open_nvml(device) if device.type == "cuda" else None
    for name in names:
        row: Row = {"method": name, "digits": float(n_digits), "batch": float(batch)}
        if nvml is None:
            row |= on_cpu(calls[name], device, name in addition.SUITE.plain_torch)
        else:
            row |= on_gpu(calls[name], device, seconds, *nvml)
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--digits", type=int, default=15)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--method", nargs="+", choices=list(addition.METHODS), default=["fused", "BP-std"])
    parser.add_argument("--seconds", type=float, default=2.0, help="per method, on a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name in ("json", "markdown"):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    try:
        rows = measure(options.method, options.digits, options.batch, options.seconds, device)
    except ModuleNotFoundError as error:
        if error.name != "pynvml":
            raise
        print(f"memory: {NO_NVML}", file=sys.stderr)
        return 2
    facts = machine(device)
    text = f"Measured on {facts.get('gpu', facts['cpu'])}, {device.type}\n\n{markdown(rows)}\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
