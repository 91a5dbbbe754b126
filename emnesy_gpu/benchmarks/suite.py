"""What a benchmark of one problem consists of, and how it is run: in one process, checked first, medians."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, inf
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.benchmarks.measure import free_bytes, in_child, median_seconds, peak_bytes

Calls = dict[str, Callable[[], Tensor]]
LARGEST_ERROR = 1e-3
TRIAL_SHARE = 16
"""Memory is estimated from one row in so many."""


@dataclass(frozen=True)
class Suite:
    """Methods to compare on one problem at several sizes and batches.

    name: of the module in this package that holds it as ``SUITE``. methods: name -> what it computes, in the order of
    the table; the last is a copy. inputs(size, batch, device) -> what the other two functions take. errors: the largest
    error of the methods that infer something. work: what one row costs, in ``unit``s, for the plot. plain_torch: the
    methods whose memory is tensors alone.
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
    plain_torch: Collection[str] = ("torch EM", "BP-std", "softmax", "copy")


@dataclass
class Measurement:
    """One method at one size; ``peak`` in bytes above the inputs, None where it cannot be read.

    seconds: None for a method that was skipped, because it does not fit into memory.
    """

    method: str
    size: int
    batch: int
    seconds: float | None
    peak: float | None
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
    peaks = _peaks(suite, cells, device)
    for size, batch in cells:
        inputs = suite.inputs(size, batch, where)
        error = suite.errors(*inputs)
        too_large = {name: value for name, value in error.items() if not value < LARGEST_ERROR}
        if too_large:
            raise ArithmeticError(f"wrong results at {suite.size_name} {size}, batch {batch}, not timed: {too_large}")
        for name, call in suite.calls(*inputs).items():
            peak = peaks[size, batch, name]
            if peak == inf:
                yield Measurement(name, size, batch, None, None, error.get(name))
            else:
                yield Measurement(name, size, batch, median_seconds(call, where, budget), peak, error.get(name))


def _peaks(suite: Suite, cells: list[tuple[int, int]], device: str) -> dict[tuple[int, int, str], float | None]:
    """Peak memory of every method, from a process of its own: its allocator settings would slow the timings.

    inf for methods that do not fit into memory: by estimate, or because the process was killed.
    """
    keys = [(size, batch, method) for size, batch in cells for method in suite.methods]
    calls = [(suite.name, *key, device, torch.get_num_threads()) for key in keys]
    return dict(zip(keys, in_child(measure_peak, calls, lost=inf), strict=True))


def measure_peak(name: str, size: int, batch: int, method: str, device: str, threads: int) -> float | None:
    torch.set_num_threads(threads)
    suite: Suite = importlib.import_module(f"emnesy_gpu.benchmarks.{name}").SUITE
    where = torch.device(device)

    def peak(rows: int) -> float | None:
        call = suite.calls(*suite.inputs(size, rows, where)).get(method)
        return None if call is None else peak_bytes(call, where, method in suite.plain_torch)

    estimate = TRIAL_SHARE * (peak(ceil(batch / TRIAL_SHARE)) or 0)
    return inf if estimate > free_bytes(where) else peak(batch)


def largest_error(marginals: Tensor, problem: em.Problem, logits: Tensor, label: Tensor, engine: em.Engine) -> float:
    """Of marginals against the float64 reference of the same engine."""
    with em.backend("reference"):
        expected = em.posterior(problem, logits, label, engine).marginals
    return float((marginals - expected).abs().max())


def as_records(measurements: Iterable[Measurement]) -> list[dict[str, object]]:
    return [asdict(measurement) for measurement in measurements]
