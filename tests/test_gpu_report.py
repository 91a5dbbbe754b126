"""The report of a GPU: which steps run, what is kept, what is cut off, and what a machine without a GPU says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from profiling import gpu_report, report, trace

ROOT = Path(__file__).parent.parent
JUNIT = "<testsuites><testsuite>{}</testsuite></testsuites>"
SKIPPED = '<testcase name="a"><skipped message="needs a CUDA device"/></testcase>'
PASSED = '<testcase name="b"/>'
NO_GPU = {"gpu missing": "no CUDA device is visible"}


@pytest.mark.parametrize(
    ("code", "junit", "expected"),
    [
        (0, None, ("ok", "")),
        (2, None, ("skipped", "trace: no CUDA device")),
        (1, None, ("failed", "exit code 1: trace: no CUDA device")),
        (0, SKIPPED * 2, ("skipped", "all 2 tests: needs a CUDA device")),
        (0, SKIPPED + PASSED, ("ok", "1 tests passed, 1 skipped")),
        (5, "", ("skipped", "all 0 tests: no test was collected")),
        (1, PASSED, ("failed", "exit code 1: trace: no CUDA device")),
        (2, PASSED, ("failed", "exit code 2: trace: no CUDA device")),
    ],
)
def test_outcome_of_a_step(code: int, junit: str | None, expected: tuple[str, str], tmp_path: Path) -> None:
    log, results = "first line\ntrace: no CUDA device\n\n", tmp_path / "tests.xml"
    if junit is not None:
        results.write_text(JUNIT.format(junit))
    assert report.outcome(code, log, None if junit is None else str(results)) == expected


def python(name: str, code: str, seconds: int = 60, **options: bool) -> gpu_report.Step:
    return gpu_report.Step(name, seconds, (sys.executable, "-c", code), **{"needs_gpu": False, **options})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the report on made-up steps; the exit code, and every record of the folder."""

    def call(steps: list[gpu_report.Step], *arguments: str) -> tuple[int, list[dict[str, object]], str]:
        monkeypatch.setattr(gpu_report, "every_step", lambda jobs: steps)
        monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: json.dumps({"gpu": "NVIDIA H200", **NO_GPU}))
        code = gpu_report.main(["--results", str(tmp_path), *arguments])
        (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
        assert folder.name.startswith("nvidia-h200-")
        return code, report.steps(folder), capsys.readouterr().out

    return call


def test_finished_steps_are_kept(run) -> None:
    first = [python("one", "print(1)"), python("two", "raise SystemExit('broken')")]
    code, steps, _ = run(first)
    assert code == 1
    assert [(step["step"], step["status"]) for step in steps] == [("one", "ok"), ("two", "failed")]
    assert steps[1]["detail"] == "exit code 1: broken"
    broken = [python(name, "raise SystemExit('must not run')") for name in ("one", "two")]
    assert [step["status"] for step in run([*broken, python("three", "")])[1]] == ["ok", "failed", "ok"]
    code, steps, _ = run([python("one", ""), python("two", "")], "--again")
    assert (code, [step["status"] for step in steps]) == (0, ["ok", "ok", "ok"])


def test_steps_are_chosen_by_name(run, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [python(name, "", on_request=name == "three") for name in ("one", "two", "three")]
    assert [step["step"] for step in run(steps, "--steps", "two")[1]] == ["two"]
    assert [step["step"] for step in run(steps)[1]] == ["two", "one"]
    monkeypatch.setenv("STEPS", "three")
    assert [step["step"] for step in run(steps)[1]] == ["two", "one", "three"]
    with pytest.raises(SystemExit, match="no such steps: four; steps: one two three"):
        run(steps, "--steps", "four")


SLEEP = "import sys, time; print('begun', flush=True); time.sleep(60)"


def test_a_step_that_exceeds_its_time_is_a_result(run) -> None:
    code, (step,), _ = run([python("long", SLEEP, seconds=2)])
    assert (code, step["status"]) == (1, "failed")
    assert step["detail"].startswith("cut off after 2 s; exit code 124")


def test_a_step_that_the_call_cuts_begins_anew(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_report, "LEAST_SECONDS", 1)
    monkeypatch.setattr(gpu_report, "CLOSING_SECONDS", 0)
    code, steps, printed = run([python("long", SLEEP), python("next", "")], "--seconds", "3")
    assert (code, [step["status"] for step in steps]) == (0, ["unfinished"])
    assert "no time is left for next: the same command goes on with it" in printed
    code, steps, _ = run([python("long", "print(1)"), python("next", "")])
    assert [(step["step"], step["status"]) for step in steps] == [("long", "ok"), ("next", "ok")]


def test_a_tool_that_is_not_installed_is_the_reason(run) -> None:
    step = gpu_report.Step("memcheck", 5, ("no-such-sanitizer",), needs_gpu=False)
    assert run([step])[1][0]["detail"] == "no-such-sanitizer is not on the PATH"


def test_steps_that_need_a_gpu_are_skipped_without_one(run) -> None:
    step = gpu_report.Step("tests", 5, ("must-not-run",))
    code, (record,), _ = run([step])
    assert (code, record["status"], record["detail"]) == (0, "skipped", NO_GPU["gpu missing"])


def test_the_report_joins_steps_and_tables(tmp_path: Path) -> None:
    report.add(tmp_path, {"step": "memory", "status": "ok", "seconds": 1.0, "detail": ""})
    report.add(tmp_path, {"step": "nsys", "status": "skipped", "seconds": 0.0, "detail": "nsys is not on the PATH"})
    (tmp_path / "memory.md").write_text("# Peak\n")
    benches = [{"name": "fused", "stats": {"median": 2e-6}, "extra_info": {"kernel_us": 1.5}}]
    (tmp_path / "benchmarks.json").write_text(json.dumps({"benchmarks": benches}))
    text = report.write(tmp_path, {"gpu": "none"})
    assert "| nsys | skipped | 0 | nsys is not on the PATH |" in text
    assert "## Peak" in text
    assert "| fused | 2 | 1.5 |" in text
    assert [step["status"] for step in json.loads((tmp_path / "report.json").read_text())["steps"]] == ["ok", "skipped"]


def test_the_archive_has_what_fits(tmp_path: Path) -> None:
    folder = tmp_path / "nvidia-h200"
    (folder / "ncu").mkdir(parents=True)
    (folder / "report.md").write_text("# Report\n")
    (folder / "ncu" / "counters.ncu-rep").write_bytes(os.urandom(300_000))
    assert gpu_report.archive(folder, most=200_000) == ["ncu/counters.ncu-rep"]
    with tarfile.open(tmp_path / "nvidia-h200.tgz") as packed:
        assert packed.getnames() == ["nvidia-h200/report.md"]
    assert gpu_report.archive(folder) == []
    assert (tmp_path / "nvidia-h200.tgz").stat().st_size > 300_000


def test_the_work_that_is_counted_exists() -> None:
    for work, size, batch in gpu_report.COUNTED:
        assert work in trace.WORK
        assert batch > 0
        assert work in trace.ADDITION or size in map(str, trace.BENCHMARKED[work][0].sizes)


def test_two_calls_of_nine_minutes_hold_the_first_steps() -> None:
    """By the time limits of the steps up to the counters of addition, boards and samples."""
    steps = gpu_report.every_step(jobs=8)
    names = [step.name for step in steps]
    assert names[:5] == ["doctor", "tests", "tests-alone", "timings", "calibration"]
    assert sum(step.seconds for step in steps[: names.index("ncu-sudoku-fused-9")]) <= 2 * 540


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")
def test_without_a_gpu_the_report_runs_to_its_end(tmp_path: Path) -> None:
    """The steps of the README, by the command of the README."""
    environment = os.environ | {"PYTHON": sys.executable, "RESULTS": str(tmp_path), "STEPS": ""}
    result = subprocess.run(
        [ROOT / "profiling" / "gpu_report.sh"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    doctor, *others = report.steps(folder)
    assert (doctor["step"], doctor["status"]) == ("doctor", "ok")
    assert len(others) == len([step for step in gpu_report.every_step(1) if not step.on_request]) - 1
    assert {step["status"] for step in others} == {"skipped"}
    assert all("NVIDIA GPU" in step["detail"] for step in others)
    assert (folder / "report.md").exists()
    assert folder.with_name(f"{folder.name}.tgz").exists()
