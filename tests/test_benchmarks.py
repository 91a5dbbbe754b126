"""The benchmark harness: what it measures is what it says."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from emnesy_gpu.benchmarks import addition, measure, startup, suite

CPU = torch.device("cpu")


def allocate() -> None:
    first = torch.ones(4 * 2**20)
    del first
    torch.ones(2 * 2**20)


def test_peak_bytes_counts_what_a_call_allocates() -> None:
    """In a new process, as the benchmarks do: holes in the heap of an old one would be counted or used."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(measure.peak_bytes, (allocate, CPU))
    assert peak is not None
    assert 15 * 2**20 < peak < 18 * 2**20


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
    assert len(record["measurements"]) == 12
    report.write_plot(tmp_path / "out.png", addition.SUITE, measurements, facts)
    assert (tmp_path / "out.png").stat().st_size > 10_000
    report.show(addition.SUITE, measurements, facts, {"cold": 1.0})


def test_wrong_results_are_not_timed() -> None:
    wrong = dataclasses.replace(addition.SUITE, errors=lambda *_: {"fused": 0.1})
    with pytest.raises(ArithmeticError, match=r"digits 1, batch 8, not timed: {'fused': 0.1}"):
        list(suite.run(wrong, sizes=[1], batches=[8]))


def test_startup_is_measured_in_a_new_process() -> None:
    seconds = startup.measure("addition", 4)
    assert seconds["import"] < seconds["warm"] < seconds["cold"]
