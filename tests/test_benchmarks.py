"""The benchmark harness: what it measures is what it says."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from emnesy_gpu.benchmarks import addition, measure, startup, sudoku, suite
from emnesy_gpu.memory import PeakMemory

CPU = torch.device("cpu")


def hold(n_bytes: int) -> tuple[Tensor, Tensor]:
    return torch.ones(n_bytes // 8), torch.ones(n_bytes // 8)


def take_turns(n_bytes: int) -> None:
    first = torch.ones(n_bytes // 4)
    del first
    torch.ones(n_bytes // 8)


@pytest.mark.parametrize(("function", "plain_torch"), [(hold, False), (hold, True), (take_turns, True)])
@pytest.mark.parametrize("n_bytes", [20 * 2**10, 300 * 2**10, 50 * 2**20])
def test_peak_bytes_counts_what_a_call_allocates(n_bytes: int, function: Callable, plain_torch: bool) -> None:
    """In a new process, as the benchmarks do: an old one has holes in its heap."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(measure.peak_bytes, (partial(function, n_bytes), CPU, plain_torch))
    assert peak is not None
    assert abs(peak - n_bytes) <= (0 if plain_torch else 16 * 2**10)


def test_a_small_batch_takes_little_memory_but_its_results() -> None:
    """4 digits, 256 sums: 80 KiB of marginals, less than 2 of evidence and status, and 30 of scratch for 32 sums."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(suite.measure_peak, ("addition", 4, 256, "fused", "cpu", 1))
        baseline = pool.apply(suite.measure_peak, ("addition", 4, 256, "BP-std", "cpu", 1))
    assert abs(peak - 112 * 2**10) <= 16 * 2**10
    assert baseline > 10 * 82 * 2**10


def test_a_measured_peak_hides_no_later_one() -> None:
    measure.peak_bytes(partial(hold, 80 * 2**20), CPU)
    memory = PeakMemory(CPU)
    torch.ones(40 * 2**20, dtype=torch.uint8)
    peak = memory.bytes()
    assert peak is not None
    assert peak > 36 * 2**20


def kill_this_process(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * number


def test_a_killed_process_loses_one_result() -> None:
    assert list(measure.in_child(kill_this_process, [(1,), (2,), (3,)], lost=-1)) == [10, -1, 30]


def peaks_with_free(free: float) -> list[float | None]:
    suite.free_bytes = lambda device: free
    return [suite.measure_peak("addition", 100, 64, method, "cpu", 1) for method in ("BP-std", "copy", "no such")]


def test_methods_that_do_not_fit_into_memory() -> None:
    """BP-std takes about 5 MiB for 64 rows: a trial with 4 rows says so."""
    ((bp_std, copy, missing),) = measure.in_child(peaks_with_free, [(2.0 * 2**20,)], lost=None)
    assert bp_std == math.inf
    assert copy is not None
    assert copy < 2**20
    assert missing is None


def test_skipped_methods_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = pytest.importorskip("emnesy_gpu.benchmarks.report")
    peaks = {(1, 8, name): math.inf if name == "BP-std" else 1e6 for name in addition.METHODS}
    monkeypatch.setattr(suite, "_peaks", lambda *_: peaks)
    measurements = list(suite.run(addition.SUITE, sizes=[1], batches=[8], budget=0.01))
    assert [m.method for m in measurements if m.seconds is None] == ["BP-std"]
    facts = measure.machine(CPU)
    cells = [list(column.cells) for column in report.table(addition.SUITE, measurements, facts).columns]
    assert cells[3].count("out of memory: skipped") == 1
    assert cells[4] == ["-"] * len(measurements)
    report.write_json(tmp_path / "out.json", measurements, facts, {"cold": 1.0})
    assert None in [record["seconds"] for record in json.loads((tmp_path / "out.json").read_text())["measurements"]]
    report.write_plot(tmp_path / "out.png", addition.SUITE, measurements, facts)


def test_median_seconds_sees_a_wait() -> None:
    import time

    assert 0.01 <= measure.median_seconds(lambda: time.sleep(0.01), CPU, budget=0.05, least_runs=3) < 0.1


def test_a_small_run(tmp_path: Path) -> None:
    report = pytest.importorskip("emnesy_gpu.benchmarks.report")
    measurements = list(suite.run(addition.SUITE, sizes=[1, 4], batches=[8], budget=0.01))
    assert [m.method for m in measurements] == list(addition.METHODS) * 2
    assert all(m.seconds > 0 for m in measurements)
    facts = measure.machine(CPU)
    report.write_json(tmp_path / "out.json", measurements, facts, {"cold": 1.0})
    record = json.loads((tmp_path / "out.json").read_text())
    assert len(record["measurements"]) == 2 * len(addition.METHODS)
    report.write_plot(tmp_path / "out.png", addition.SUITE, measurements, facts)
    assert (tmp_path / "out.png").stat().st_size > 10_000
    report.show(addition.SUITE, measurements, facts, {"cold": 1.0})


def test_kernels_are_compiled_at_all_sizes_by_methods_of_this_package_alone() -> None:
    called = []

    def calls(n_digits: int, batch: int, device: torch.device) -> dict[str, Callable]:
        return {name: partial(called.append, (name, n_digits, batch)) for name in ("fused", "copy", "C++")}

    suite_ = dataclasses.replace(
        addition.SUITE, sizes=(1, 4), inputs=lambda *point: point, calls=calls, rivals=("C++",), plain_torch=("copy",)
    )
    suite_.compile_kernels([8], torch.device("cpu"))
    assert called == [("fused", 1, 8), ("fused", 4, 8)]


def test_wrong_results_are_not_timed() -> None:
    wrong = dataclasses.replace(addition.SUITE, errors=lambda *_: {"fused": 0.1})
    with pytest.raises(ArithmeticError, match=r"digits 1, batch 8, not timed: {'fused': 0.1}"):
        list(suite.run(wrong, sizes=[1], batches=[8]))


@pytest.mark.parametrize("size", sudoku.SIZES)
def test_the_check_of_sudoku_sees_a_missing_sweep(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make_calls, inputs = sudoku.methods, sudoku.inputs(size, 4, CPU)
    assert max(sudoku.errors(*inputs).values()) < 1e-5

    def one_sweep_less(*case):
        with monkeypatch.context() as patch:
            patch.setattr(sudoku, "SWEEPS", sudoku.SWEEPS - 1)
            return make_calls(*case)

    monkeypatch.setattr(sudoku, "methods", one_sweep_less)
    errors = sudoku.errors(*inputs)
    assert min(errors["fused"], errors["pairwise"]) > suite.LARGEST_ERROR


@pytest.mark.parametrize(("rows", "copies"), [(10, 1), (10_000, 16), (40_000, 4), (10**6, 1)])
def test_inputs_take_turns_where_the_cache_of_a_gpu_would_serve_them(
    rows: int, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An L2 cache of 64 MB; copies are twice as large, unless they are so small that only launches count."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(L2_cache_size=64_000_000))
    where = dataclasses.replace(addition.SUITE, calls=lambda problem, logits: {"address": lambda: logits.data_ptr()})
    call = where.calls_in_turn((None, torch.zeros(rows, 200)), torch.device("cuda"))["address"]
    assert len({call() for _ in range(64)}) == copies


def test_startup_is_measured_in_a_new_process() -> None:
    seconds = startup.measure("addition", 4)
    assert seconds["import"] < seconds["warm"] < seconds["cold"]
