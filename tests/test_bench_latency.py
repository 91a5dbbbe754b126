"""The benchmark of single calls: what it compares is the same, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from emnesy_gpu.baselines import cpp
from emnesy_gpu.benchmarks.commands import bench
from emnesy_gpu.benchmarks.latency import run
from emnesy_gpu.benchmarks.latency.cases import CASES
from tests.benchmarking import time_in_passes

BUDGETS = {
    "addition-4": 10,
    "sudoku-4": 10,
    "sudoku-9-bp": 300,
    "sudoku-9-abc-32": 63,
    "sudoku-9-abc-1024": 142,
    "sudoku-9-gibbs": 100,
    "automaton": 10,
    "circuit": 10,
    "path-12": 25,
    "path-30": 60,
    "path-30-costs": 60,
}
"""Microseconds that a call with one row should take at most on one core: to compare with, not to fail at."""


@pytest.mark.parametrize("name", CASES)
def test_fixed_cost(benchmark, later_passes, name: str) -> None:
    """With --benchmark-only: one row, beside its budget where there is one."""
    benchmark.group = "one row"
    benchmark.extra_info["budget_us"] = BUDGETS.get(name)
    time_in_passes(benchmark, later_passes, CASES[name](1)["call"], lambda: CASES[name](1)["call"])


def needs_compiler() -> None:
    if cpp.compiler() is None:
        pytest.skip("no C++ compiler")


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("-loss")])
def test_rivals_return_what_the_call_returns(name: str) -> None:
    needs_compiler()
    expected, *others = (call() for call in CASES[name](3).values())
    for found in others:
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0.0)


def test_a_table_and_a_picture_from_one_command(tmp_path: Path) -> None:
    needs_compiler()
    options = ["latency", "--op", "addition-4", "--batch", "2", "--seconds", "0.001"]
    result = CliRunner().invoke(bench, [*options, "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "addition-4" in result.output
    (record,) = json.loads((tmp_path / "latency.json").read_text())["latencies"]
    assert {"call", "no check", "C++"} <= set(record["seconds"])
    assert (tmp_path / "latency.png").stat().st_size > 1000
    again = CliRunner().invoke(bench, [*options, "--before", str(tmp_path / "latency.json")], catch_exceptions=False)
    assert "before" in again.output


def test_an_unknown_op_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(bench, ["latency", "--op", "subtraction"])
    assert result.exit_code == 2
    assert "addition-100" in result.output


def test_what_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"call": lambda: torch.zeros(2), "C++": lambda: torch.ones(2)}
    monkeypatch.setitem(CASES, "wrong", lambda batch: wrong)
    with pytest.raises(ArithmeticError, match=r"C\+\+ differs from ours by 1.0 in wrong: not timed"):
        list(run.run(["wrong"], [1], 0.001))
