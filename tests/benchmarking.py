"""One benchmark of one method of a suite, on CPU and CUDA."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import pytest
import torch

from emnesy_gpu.benchmarks import clocks
from emnesy_gpu.benchmarks.measure import machine, now
from emnesy_gpu.benchmarks.suite import LARGEST_ERROR, Suite


def synchronised() -> float:
    return now(torch.device("cuda"))


SECONDS = 0.15
"""To spend on a figure, where that gives enough rounds and not too many."""

ROUNDS = 5, 50

SHORTEST_ROUND = 1e-4
"""Seconds; shorter calls are timed several at once, so that the clock and the loop do not show."""


def points(suite: Suite) -> list[Any]:
    """Devices with batches; on a CPU the largest batch, where a baseline takes seconds a call, only with --slow."""
    largest = max(suite.batches)
    on_cuda = [pytest.mark.cuda, pytest.mark.benchmark(timer=synchronised)]
    return [
        *(pytest.param("cpu", n, marks=pytest.mark.slow if n == largest else ()) for n in suite.batches),
        *(pytest.param("cuda", n, marks=on_cuda) for n in suite.batches),
    ]


ERRORS: dict[tuple[str, int | str, int, str], dict[str, float]] = {}
"""Of all methods of a suite at a size and a batch on a device, computed once."""


def measure(benchmark, suite: Suite, device: str, size: int | str, batch: int, method: str) -> None:
    """Groups are sizes, so that every method stands beside its baselines; the results are checked first."""
    where = torch.device(device)
    inputs = suite.inputs(size, batch, where)
    calls = suite.calls_in_turn(inputs, where)
    if method not in calls:
        pytest.skip(f"{method} does not exist for {suite.size_name} {size}")
    case = suite.name, size, batch, device
    if case not in ERRORS:
        ERRORS[case] = suite.errors(*inputs)
    error = ERRORS[case].get(method, 0.0)
    assert error < LARGEST_ERROR
    benchmark.group = f"{suite.name} {device} {suite.size_name}={size} batch={batch}"
    benchmark.extra_info |= machine(where) | {"max_error": error}
    if device == "cuda":
        benchmark.extra_info |= clocks.extra_info(calls[method], where)
    with one_thread():
        calls[method]()  # compiles
        start = time.perf_counter()
        calls[method]()
        seconds = time.perf_counter() - start
        iterations = ceil(SHORTEST_ROUND / seconds)
        rounds = min(max(int(SECONDS / (seconds * iterations)), ROUNDS[0]), ROUNDS[1])
        benchmark.pedantic(calls[method], rounds=rounds, iterations=iterations)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
