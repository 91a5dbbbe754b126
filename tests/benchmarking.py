"""One benchmark of one method of a suite, on CPU and CUDA."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
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


SECONDS = 0.03
"""To spend on a figure in a pass, where that gives enough rounds and not too many."""

ROUNDS = 1, 12

SHORTEST_ROUND = 1e-4
"""Seconds; shorter calls are timed several at once, so that the clock and the loop do not show."""


def quick_batches(suite: Suite) -> list[int]:
    """All but the largest, at which a baseline takes seconds a call on a CPU."""
    return sorted(suite.batches)[:-1]


def points(suite: Suite) -> list[Any]:
    """Devices with batches; those on a CPU that are not quick only with --slow."""
    quick = quick_batches(suite)
    on_cuda = [pytest.mark.cuda, pytest.mark.benchmark(timer=synchronised)]
    return [
        *(pytest.param("cpu", n, marks=() if n in quick else pytest.mark.slow) for n in suite.batches),
        *(pytest.param("cuda", n, marks=on_cuda) for n in suite.batches),
    ]


ERRORS: dict[tuple[str, int | str, int, str], dict[str, float]] = {}
"""Of all methods of a suite at a size and a batch on a device, computed once."""


def measure(
    benchmark, later: list[Callable[[], None]], suite: Suite, device: str, size: int | str, batch: int, method: str
) -> None:
    """Groups are sizes, so that every method stands beside its baselines; the results are checked first."""
    where = torch.device(device)

    inputs = suite.inputs(size, batch, where)
    call = suite.calls_in_turn(inputs, where).get(method)
    if call is None:
        pytest.skip(f"{method} does not exist for {suite.size_name} {size}")
    case = suite.name, size, batch, device
    if case not in ERRORS:
        ERRORS[case] = suite.errors(*inputs)
    error = ERRORS[case].get(method, 0.0)
    assert error < LARGEST_ERROR
    benchmark.group = f"{suite.name} {device} {suite.size_name}={size} batch={batch}"
    benchmark.extra_info |= machine(where) | {"max_error": error}
    if device == "cuda":
        benchmark.extra_info |= clocks.extra_info(call, where)

    def make_call() -> Callable[[], object]:
        return suite.calls_in_turn(suite.inputs(size, batch, where), where)[method]

    time_in_passes(benchmark, later, call, make_call)


def compile_kernels(files: Collection[str]) -> None:
    """Compile what the figures of modules need on a CPU, on all cores; the process that times then loads it."""
    with ProcessPoolExecutor(min(len(files), os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        for each in [pool.submit(_compile_kernels, name) for name in files]:
            each.result()


def _compile_kernels(file: str) -> None:
    module = importlib.import_module(file)
    with one_thread():
        if hasattr(module, "SUITE"):
            module.SUITE.compile_kernels(quick_batches(module.SUITE), torch.device("cpu"))
        else:
            for case in module.CASES.values():
                case(1)["call"]()


def time_in_passes(
    benchmark,
    later: list[Callable[[], None]],
    call: Callable[[], object],
    make_call: Callable[[], Callable[[], object]],
) -> None:
    """Time a call now, and add to ``later`` what times it again: made anew, so that no inputs wait in memory.

    Baselines that sample draw the same in each run.
    """
    with one_thread():
        call()
        torch.manual_seed(0)
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        iterations = ceil(SHORTEST_ROUND / seconds)
        rounds = min(max(int(SECONDS / (seconds * iterations)), ROUNDS[0]), ROUNDS[1])
        benchmark.pedantic(call, rounds=rounds, iterations=iterations)
    if benchmark.enabled:
        later.append(lambda: add_rounds(benchmark.stats, make_call(), rounds))


def add_rounds(stats, call: Callable[[], object], rounds: int) -> None:
    """To the figures of pytest-benchmark, as it takes them; a call that fills its round needs no warm caches."""
    timer = stats.options["timer"]
    with one_thread():
        torch.manual_seed(0)
        for _ in range(stats.iterations if rounds > 1 else 0):
            call()
        for _ in range(rounds):
            start = timer()
            for _ in range(stats.iterations):
                call()
            stats.update(timer() - start)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
