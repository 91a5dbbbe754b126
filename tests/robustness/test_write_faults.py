"""Every write call fails in turn: what was complete stays, errors are one line, and a run goes on to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.circuits import files as circuit_files
from emnesy_gpu.cli import main
from emnesy_gpu.logic import exactly, symbols
from emnesy_gpu.reproduce import records
from emnesy_gpu.reproduce.campaign import Clock
from emnesy_gpu.reproduce.claims import Claims
from emnesy_gpu.tasks.addition.settings import AdditionSettings
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.learning_curve import save_learning_curve
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from tests.robustness.damage import EPOCHS, begin_or_resume, fail_and_resume
from tests.robustness.faults import FAULTS, Fault, failing, faulty_runs, write_calls
from tests.robustness.kernel_programs import Program
from tests.robustness.runs import arguments
from tests.train_runs import assert_same_run, error_line, no_mnist_at_hand  # noqa: F401

SETTINGS = AdditionSettings(data="digits", epochs=4, batch=60, lr=1e-3, digits=2)
RECORD = {"epoch": 1, "loss": 1.0, "log_evidence": -1.0, "seconds_e": 1.0, "seconds_m": 1.0, "accuracy": 0.5}
each_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
two_faults = pytest.mark.parametrize("name", ["full disk in a write", "broken once"])


def state(epochs: int) -> dict[str, Any]:
    return {"history": [RECORD] * epochs, "weights": torch.full((100,), float(epochs))}


def write_run(directory: RunDirectory, first: int = 1, last: int = 2) -> None:
    """Write what a run of these epochs does."""
    for epoch in range(first, last + 1):
        directory.save_checkpoint(state(epoch))
        directory.append_metrics(RECORD)
    directory.rewrite_metrics([RECORD] * last)
    directory.save_summary({"accuracy": 0.5})


@each_fault
def test_a_folder_of_a_run_keeps_what_was_complete(fault: Fault, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", AdditionSettings)

    def begin() -> None:
        shutil.rmtree(directory.path, ignore_errors=True)
        directory.create(SETTINGS)
        write_run(directory, 1, 1)

    n_failed = 0
    for error in faulty_runs(lambda: write_run(directory, 2, 3), fault, begin):
        n_failed += 1
        assert isinstance(error, DataError)
        assert str(directory.path) in str(error)
        assert "--resume" in str(error)
        epochs = len(directory.load_checkpoint()["history"])
        assert directory.load_checkpoint()["weights"].equal(state(epochs)["weights"])
        directory.rewrite_metrics([RECORD] * epochs)
        assert len(directory.metrics.read_text().splitlines()) == epochs
        assert json.loads(directory.summary.read_text()) == {"accuracy": 0.5}
        assert sorted(path.suffix for path in directory.path.iterdir()).count(".partial") == 0
        write_run(directory, epochs + 1, 4)
        assert len(directory.load_checkpoint()["history"]) == 4
    assert n_failed > 10


@each_fault
def test_a_new_folder_holds_a_run_or_none(fault: Fault, tmp_path: Path) -> None:
    path = tmp_path / "run"
    for error in faulty_runs(
        lambda: RunDirectory(path, AdditionSettings).create(SETTINGS),
        fault,
        lambda: shutil.rmtree(path, ignore_errors=True),
    ):
        assert isinstance(error, (DataError, OSError))
        again = RunDirectory(path, AdditionSettings)
        again.check_unused()
        again.create(SETTINGS)


@each_fault
def test_records_that_were_written_stay(fault: Fault, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    before = [{"key": "a", "status": "done"}]
    for error in faulty_runs(
        lambda: records.append(path, [{"key": "b", "status": "done"}, {"key": "c", "status": "done"}]),
        fault,
        lambda: path.write_text(json.dumps(before[0]) + "\n"),
    ):
        assert isinstance(error, OSError)
        assert records.read(path)[:1] == before
        records.append(path, [{"key": "d", "status": "done"}])
        assert [record["key"] for record in records.read(path)][:: len(records.read(path)) - 1] == ["a", "d"]


@each_fault
def test_the_seconds_of_an_experiment_stay_as_they_were(fault: Fault, tmp_path: Path) -> None:
    def measure() -> None:
        with Clock(tmp_path / "seconds.json"):
            pass

    for error in faulty_runs(measure, fault, lambda: (tmp_path / "seconds.json").write_text("5.0")):
        assert isinstance(error, OSError)
        assert Clock(tmp_path / "seconds.json").before >= 5.0


@each_fault
def test_a_claim_that_failed_is_free_again(fault: Fault, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for error in faulty_runs(lambda: Claims().take(folder), fault, lambda: shutil.rmtree(folder, ignore_errors=True)):
        assert isinstance(error, OSError)
        assert Claims().take(folder) is not None


@pytest.mark.filterwarnings("ignore:machine code:RuntimeWarning")
@two_faults
def test_kernels_run_without_their_cache(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    n_failed = 0
    program = Program(tmp_path)
    for error in faulty_runs(program.run, fault, lambda: shutil.rmtree(program.cache, ignore_errors=True)):
        n_failed += 1
        assert error is None
        program.run()
        assert program.run() == 1
    assert n_failed > 3


@each_fault
def test_circuits_are_there_or_not(fault: Fault, tmp_path: Path) -> None:
    circuit, path = em.Circuit(exactly(1, symbols(3))), tmp_path / "circuit.npz"
    for error in faulty_runs(lambda: circuit.save(path), fault, lambda: path.write_bytes(b"old")):
        is_old = path.read_bytes() == b"old"
        assert is_old == isinstance(error, OSError)  # a folder that is there need not be made
        assert is_old or em.Circuit.load(path).n_edges == circuit.n_edges


@each_fault
def test_a_circuit_that_cannot_be_kept_is_used(fault: Fault, tmp_path: Path) -> None:
    graph = em.Circuit(exactly(1, symbols(3))).graph
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for error in faulty_runs(
            lambda: circuit_files.cached(tmp_path / "cache", b"key", lambda: graph),
            fault,
            lambda: shutil.rmtree(tmp_path / "cache", ignore_errors=True),
        ):
            assert error is None
            assert circuit_files.cached(tmp_path / "cache", b"key", lambda: graph).n_edges == graph.n_edges


@two_faults
def test_pictures_are_whole_or_as_before(name: str, tmp_path: Path) -> None:
    fault, path = FAULTS[name], tmp_path / "curve.png"

    def draw() -> None:
        save_learning_curve(path, [RECORD], "run", {"accuracy": "accuracy"}, "sum")

    draw()  # the first one may write caches of fonts
    n = write_calls(draw)
    for number in sorted({1, n // 2, n - 2, n - 1, n}):
        path.write_bytes(b"old")
        with failing(number, fault), pytest.raises(OSError, match=r"No space|Input/output"):
            draw()
        assert path.read_bytes() == b"old"


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(arguments(folder, EPOCHS)) == 0
    return folder


@pytest.mark.parametrize("number", [3, 9, 17, 26, 33])
def test_a_run_ends_in_one_line_and_goes_on(number: int, whole_run: Path, tmp_path: Path) -> None:
    fault = list(FAULTS.values())[number % len(FAULTS)]
    assert fail_and_resume(whole_run, tmp_path / "run", number, fault) is not None


@pytest.mark.slow
@each_fault
def test_a_run_whose_every_write_call_fails_in_turn(fault: Fault, whole_run: Path, tmp_path: Path) -> None:
    number = 1
    while fail_and_resume(whole_run, tmp_path / "run", number, fault) is not None:
        number += 1
    assert number > 50


def mount(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, words)], capture_output=True, text=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where mounting is allowed."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a file system needs Linux and root")
    found = mount("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path)
    if found.returncode != 0:
        pytest.skip(f"mounting is not allowed: {found.stderr.strip()}")
    try:
        yield tmp_path
    finally:
        mount("umount", "--lazy", tmp_path)


def test_a_run_goes_on_when_a_full_disk_has_room_again(whole_run: Path, small_disk: Path, capsys) -> None:
    folder = small_disk / "run"
    assert "could not be written: No space left on device" in error_line(begin_or_resume(folder), capsys)
    assert mount("mount", "-o", "remount,size=64m", small_disk).returncode == 0
    assert main(begin_or_resume(folder)) == 0
    assert_same_run(whole_run, folder)
