"""One benchmark of one method of a suite, on CPU and CUDA."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from emnesy_gpu.benchmarks import clocks
from emnesy_gpu.benchmarks.measure import machine, now
from emnesy_gpu.benchmarks.suite import LARGEST_ERROR, Suite


def synchronised() -> float:
    return now(torch.device("cuda"))


SECONDS = 0.25
"""To spend on a figure, where that gives enough rounds."""

FEWEST_ROUNDS = 3

DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.benchmark(timer=synchronised)])]


ERRORS: dict[tuple[str, int | str, int, str], dict[str, float]] = {}
"""Of all methods of a suite at a size and a batch on a device, computed once."""


def measure(benchmark, suite: Suite, device: str, size: int | str, batch: int, method: str, large: bool) -> None:
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
        fitting = int(SECONDS / (time.perf_counter() - start))
        benchmark.pedantic(calls[method], rounds=max(FEWEST_ROUNDS, min(fitting, 5 if large else 20)))


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
