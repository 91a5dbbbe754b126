"""What a benchmark of one problem consists of, and how it is run: in one process, checked first, medians."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.benchmarks.measure import median_seconds, peak_bytes

Calls = dict[str, Callable[[], Tensor]]
LARGEST_ERROR = 1e-3


@dataclass(frozen=True)
class Suite:
    """Methods to compare on one problem at several sizes and batches.

    name: of the module in this package that holds it as ``SUITE``. methods: name -> what it computes, in the order of
    the table; the last is a copy. inputs(size, batch, device) -> what the other two functions take. errors: the largest
    error of the methods that infer something. work: what one row costs, in ``unit``s, for the plot.
    """

    name: str
    title: str
    size_name: str
    sizes: Sequence[int]
    batches: Sequence[int]
    methods: Mapping[str, str]
    inputs: Callable[[int, int, torch.device], tuple[Any, ...]]
    calls: Callable[..., Calls]
    errors: Callable[..., dict[str, float]]
    unit: str
    work: Callable[[int], float]
    baseline: str = "BP-std"
    copy: str = "copy"


@dataclass
class Measurement:
    """One method at one size; ``peak`` in bytes above the inputs."""

    method: str
    size: int
    batch: int
    seconds: float
    peak: int | None
    error: float | None


def run(
    suite: Suite,
    sizes: Iterable[int] | None = None,
    batches: Iterable[int] | None = None,
    device: str = "cpu",
    budget: float = 0.5,
) -> Iterator[Measurement]:
    """Measure every method at every size; the results are checked against the reference before they are timed."""
    where = torch.device(device)
    cells = [(size, batch) for size in sizes or suite.sizes for batch in batches or suite.batches]
    peaks = _peaks(suite.name, cells, device, torch.get_num_threads())
    for size, batch in cells:
        inputs = suite.inputs(size, batch, where)
        error = suite.errors(*inputs)
        too_large = {name: value for name, value in error.items() if not value < LARGEST_ERROR}
        if too_large:
            raise ArithmeticError(f"wrong results at {suite.size_name} {size}, batch {batch}, not timed: {too_large}")
        for name, call in suite.calls(*inputs).items():
            seconds = median_seconds(call, where, budget)
            yield Measurement(name, size, batch, seconds, peaks[size, batch, name], error.get(name))


def _peaks(
    name: str, cells: list[tuple[int, int]], device: str, threads: int
) -> dict[tuple[int, int, str], int | None]:
    """Peak memory of every method, from a process of its own: its allocator settings would slow the timings."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure_peaks, (name, cells, device, threads))


def _measure_peaks(
    name: str, cells: list[tuple[int, int]], device: str, threads: int
) -> dict[tuple[int, int, str], int | None]:
    torch.set_num_threads(threads)
    suite: Suite = importlib.import_module(f"emnesy_gpu.benchmarks.{name}").SUITE
    where = torch.device(device)
    return {
        (size, batch, method): peak_bytes(call, where)
        for size, batch in cells
        for method, call in suite.calls(*suite.inputs(size, batch, where)).items()
    }


def as_records(measurements: Iterable[Measurement]) -> list[dict[str, object]]:
    return [asdict(measurement) for measurement in measurements]
