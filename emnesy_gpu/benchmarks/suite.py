"""Benchmarks of one problem: results are checked first, then timed in one process, as medians."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, product
from math import ceil, inf
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.benchmarks.measure import free_bytes, in_child, median_seconds, peak_bytes

Calls = dict[str, Callable[[], Tensor]]
Size = Any
"""An integer, or the name of what is measured."""

LARGEST_ERROR = 1e-3
"""Largest error of a probability or a gradient with which a method is still timed."""

MOST_COPIES = 32
"""Copies of inputs of at least 4 MB that fill 128 MB, twice the L2 cache of the largest GPUs."""

TRIAL_SHARE = 16
"""Share of the batch, 1 / 16, from which the memory of the whole batch is estimated."""


@dataclass(frozen=True)
class Suite:
    """Methods to compare on one problem at several sizes and batches.

    name: the module of this package that holds the suite as ``SUITE``.
    methods: name -> what the method computes, in the order of the table; the last is the copy.
    inputs: (size, batch, device) -> the arguments of ``calls`` and ``errors``.
    calls: name -> the method as a call without arguments.
    errors: name -> the largest error, for methods that do inference.
    work: size -> the cost of one row in ``unit``, for the plot.
    baseline, copy: the methods that ratios refer to.
    plain_torch: the methods that use no memory but tensors.
    rivals: the methods of other packages.
    """

    name: str
    title: str
    size_name: str
    sizes: Sequence[Size]
    batches: Sequence[int]
    methods: Mapping[str, str]
    inputs: Callable[[Size, int, torch.device], tuple[Any, ...]]
    calls: Callable[..., Calls]
    errors: Callable[..., dict[str, float]]
    unit: str
    work: Callable[[Size], float]
    baseline: str = "BP-std"
    copy: str = "copy"
    plain_torch: Collection[str] = ("torch EM", "BP-std", "softmax", "copy")
    rivals: Collection[str] = ()

    def compile_kernels(self, batches: Iterable[int], device: torch.device) -> None:
        """Call the methods of this package once at every size and batch."""
        for size, batch in product(self.sizes, batches):
            for name, call in self.calls(*self.inputs(size, batch, device)).items():
                if name not in self.plain_torch and name not in self.rivals:
                    call()

    def calls_in_turn(self, inputs: tuple[Any, ...], device: torch.device) -> Calls:
        """The methods; on a GPU inputs take turns from call to call, so that the L2 cache does not serve them."""
        copies = [inputs] + [_copied(inputs) for _ in range(n_copies(inputs, device) - 1)]
        calls = [self.calls(*each) for each in copies]
        return {name: _in_turn([each[name] for each in calls]) for name in calls[0]}


def n_copies(inputs: tuple[Any, ...], device: torch.device) -> int:
    """How many copies of the tensors are twice as large as the L2 cache of a GPU.

    It is 1 if that takes more than MOST_COPIES: such inputs move in under a microsecond, which a launch takes anyway.
    """
    if device.type != "cuda":
        return 1
    n_bytes = sum(value.nbytes for value in inputs if isinstance(value, Tensor))
    copies = ceil(2 * torch.cuda.get_device_properties(device).L2_cache_size / n_bytes)
    return copies if copies <= MOST_COPIES else 1


def _copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)


def _in_turn(calls: Sequence[Callable[[], Tensor]]) -> Callable[[], Tensor]:
    if len(calls) == 1:
        return calls[0]
    turns = cycle(calls)
    return lambda: next(turns)()


@dataclass
class Measurement:
    """The figures of one method at one size and batch.

    seconds: the median; None for a method that was skipped because it does not fit into memory.
    peak: bytes above the inputs; None where they cannot be read, or the method was skipped.
    error: the largest error; None for a method without inference.
    """

    method: str
    size: Size
    batch: int
    seconds: float | None
    peak: float | None
    error: float | None


def run(
    suite: Suite,
    sizes: Iterable[Size] | None = None,
    batches: Iterable[int] | None = None,
    device: str = "cpu",
    budget: float = 0.5,
) -> Iterator[Measurement]:
    """Yield the figures of every method at every size and batch.

    Raises ArithmeticError, before a method is timed, if a result differs from the reference by LARGEST_ERROR or more.
    """
    where = torch.device(device)
    points = [(size, batch) for size in sizes or suite.sizes for batch in batches or suite.batches]
    peaks = _peaks(suite, points, device)
    for size, batch in points:
        inputs = suite.inputs(size, batch, where)
        error = suite.errors(*inputs)
        too_large = {name: value for name, value in error.items() if not value < LARGEST_ERROR}
        if too_large:
            raise ArithmeticError(f"wrong results at {suite.size_name} {size}, batch {batch}, not timed: {too_large}")
        for name, call in suite.calls_in_turn(inputs, where).items():
            peak = peaks[size, batch, name]
            if peak == inf:
                yield Measurement(name, size, batch, None, None, error.get(name))
            else:
                yield Measurement(name, size, batch, median_seconds(call, where, budget), peak, error.get(name))


def _peaks(suite: Suite, points: list[tuple[Size, int]], device: str) -> dict[tuple[Size, int, str], float | None]:
    """Peak memory of every method, measured in a child process, since its allocator settings would slow the timings.

    It is inf for methods that do not fit into memory, by the estimate or because the process was killed.
    """
    keys = [(size, batch, method) for size, batch in points for method in suite.methods]
    calls = [(suite.name, *key, device, torch.get_num_threads()) for key in keys]
    return dict(zip(keys, in_child(measure_peak, calls, lost=inf), strict=True))


def measure_peak(name: str, size: Size, batch: int, method: str, device: str, threads: int) -> float | None:
    """Peak bytes of one method of the suite of a name; inf if they would not fit into memory."""
    torch.set_num_threads(threads)
    suite: Suite = importlib.import_module(f"emnesy_gpu.benchmarks.{name}").SUITE
    where = torch.device(device)

    def peak(rows: int) -> float | None:
        call = suite.calls(*suite.inputs(size, rows, where)).get(method)
        return None if call is None else peak_bytes(call, where, method in suite.plain_torch)

    estimate = TRIAL_SHARE * (peak(ceil(batch / TRIAL_SHARE)) or 0)
    return inf if estimate > free_bytes(where) else peak(batch)


def largest_error(marginals: Tensor, problem: em.Problem, logits: Tensor, label: Tensor, engine: em.Engine) -> float:
    """The largest error of marginals against the float64 reference of the same engine."""
    with em.backend("reference"):
        expected = em.posterior(problem, logits, label, engine).marginals
    return float((marginals - expected).abs().max())


def as_records(measurements: Iterable[Measurement]) -> list[dict[str, object]]:
    """The measurements as dictionaries, for JSON."""
    return [asdict(measurement) for measurement in measurements]
