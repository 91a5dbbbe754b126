"""Calibration without a GPU: what the loops of the rates execute, and the tables of recorded figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from profiling import calibrate, peaks
from profiling.gpu_simulator import launch, nvrtc
from tests import kernel_budgets, kernel_calibration

RECORDING = Path(__file__).parent / "recordings" / "synthetic_calibration.json"
H100 = peaks.GPUS["H100"]
OPCODES = {"fma_rate": "fma.rn.f32", "ex2_rate": "ex2.approx.ftz.f32", "alu_rate": "shf.l.wrap.b32"}
MODELLED = {
    "made up, memory": {"gpu": "H100", "nanoseconds": 3.0, "limit": "memory"},
    "made up, issue": {"gpu": "H100", "nanoseconds": 10.0, "limit": "issue"},
    "made up, L1": {"gpu": "H100", "nanoseconds": 2.5, "limit": "L1"},
    "made up, failed": {"gpu": "H100", "nanoseconds": 1.0, "limit": "alu"},
}


@pytest.mark.skipif(nvrtc.find_nvrtc() is None, reason="needs libnvrtc: pip install nvidia-cuda-nvrtc")
@pytest.mark.parametrize("rate", calibrate.RATES, ids=lambda rate: rate.limit)
def test_a_loop_executes_what_its_rate_counts(rate: calibrate.Rate) -> None:
    ptx = nvrtc.compile_cuda(calibrate.SOURCE.read_text(), 90, ("-std=c++17",))
    turns = 3
    counters = launch(ptx, (2,), (calibrate.THREADS,), [np.zeros(1, np.float32), turns], name=rate.function).counters
    expected = calibrate.work_of(rate, 2, turns)
    if rate.function in OPCODES:
        assert counters.opcodes[OPCODES[rate.function]] == expected
    else:
        before = 2 * calibrate.THREADS  # reads of the first value
        reads = {name: n for name, n in counters.opcodes.items() if ".shared" in name and name.startswith("ld")}
        assert sum(reads.values()) - before == expected / rate.per_instruction
    loop = sum(counters.opcodes.values()) - 40 * 2 * calibrate.THREADS
    assert loop <= 1.1 * expected / rate.per_instruction


def test_gpus_are_known_by_the_names_of_their_drivers() -> None:
    assert calibrate.gpu_of("NVIDIA H200") == peaks.GPUS["H200"]
    assert calibrate.gpu_of("NVIDIA H100 80GB HBM3") == H100
    assert calibrate.gpu_of("NVIDIA A100-SXM4-80GB") == peaks.GPUS["A100"]
    assert calibrate.gpu_of("Tesla T4") is None


def test_modelled_times_take_the_measured_rate_of_their_limit() -> None:
    record = json.loads(RECORDING.read_text())
    memory, issue, l1, failed = calibrate.calibrated(record["entries"], record["rates"], MODELLED)
    assert memory["calibrated ns"] == pytest.approx(3.0 * H100.bandwidth / 4.2e12)
    assert memory["measured / calibrated"] == pytest.approx(4.0 / (3.0 * H100.bandwidth / 4.2e12))
    assert issue["calibrated ns"] == pytest.approx(10.0 * 128 * H100.cycles / 3.0e13)
    assert issue["measured / modelled"] == 3.0
    assert (l1["calibrated ns"], l1["measured / modelled"]) == (None, 2.0)
    assert failed["measured / modelled"] is None


def test_recorded_figures_become_tables(tmp_path: Path, monkeypatch, capsys) -> None:
    budgets = {"budgets": {name: {kernel_budgets.MODELLED: model} for name, model in MODELLED.items()}}
    monkeypatch.setattr(kernel_budgets, "read", lambda: budgets)
    assert kernel_calibration.main(["--from", str(RECORDING), "--markdown", str(tmp_path / "calibration.md")]) == 0
    text = (tmp_path / "calibration.md").read_text()
    assert text in capsys.readouterr().out
    assert "synthetic: no such figure was measured" in text
    assert "| made up, failed | - | alu | 1 |" in text
    assert "no longer in the table" not in text
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| made up")]
    assert lines == ["made up, issue", "made up, L1", "made up, memory", "made up, failed"]


def test_entries_are_measured_with_rows_that_fill_a_gpu(monkeypatch) -> None:
    pytest.importorskip("triton")
    from profiling.gpu_simulator import Options, simulated_triton

    entry = next(entry for entry in kernel_calibration.ENTRIES if entry.function == "draw")
    monkeypatch.setattr(kernel_calibration, "MOST_ROWS", 40)
    monkeypatch.setattr(kernel_calibration, "kernel_seconds", lambda call, device, calls: call() and 40e-6)
    with simulated_triton(90, Options(checks=False, counters=False)):
        (row,) = kernel_calibration.measured([entry], torch.device("cpu"))
    assert row == {"entry": str(entry), "rows": 40.0, "ns a row": pytest.approx(1000.0), "error": None}


def test_an_entry_that_fails_says_why(monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel image\nsecond line")

    monkeypatch.setattr(kernel_calibration, "filled", broken)
    (row,) = kernel_calibration.measured(kernel_calibration.ENTRIES[:1], torch.device("cpu"))
    assert row["error"] == "RuntimeError: no kernel image"
