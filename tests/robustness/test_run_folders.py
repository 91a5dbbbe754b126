"""Folders of runs: one writer at a time, and files that are cut, changed, foreign, full of errors or not there."""

from __future__ import annotations

import json
import resource
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.files import checkpoint_file
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.folder_lock import locked
from tests.robustness.runs import arguments, process, resume, wait_for
from tests.train_runs import assert_same_run, error_line, interrupt_in_epoch_2, no_mnist_at_hand  # noqa: F401


@pytest.fixture(scope="module")
def half_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted after the first of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "half"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_epoch_2(arguments(folder), patch)
    return folder


@pytest.fixture
def run(half_a_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(half_a_run, tmp_path / "run")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(arguments(folder)) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("command", [resume, arguments])
def test_a_second_writer_is_refused(command: Callable[[Path], list[str]], tmp_path: Path, run: Path, capsys) -> None:
    folder = run if command is resume else tmp_path / "new"
    with locked(folder):
        before = contents(folder)
        assert f"{folder} is in use by process" in error_line(command(folder), capsys)
        assert contents(folder) == before
    assert main(command(folder)) == 0


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, capsys) -> None:
    child = process(arguments(tmp_path, epochs=1000))
    try:
        wait_for((tmp_path / "metrics.jsonl").exists, child)
        assert f"{tmp_path} is in use by process {child.pid}" in error_line(resume(tmp_path), capsys)
    finally:
        child.kill()
        child.communicate()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.jsonl", "summary.json", "curve.png"])
def test_files_of_others_are_not_overwritten(name: str, tmp_path: Path, capsys) -> None:
    (tmp_path / name).write_text("not ours")
    assert f"{name} exists" in error_line(arguments(tmp_path), capsys)
    assert contents(tmp_path) == {name: b"not ours"}


def test_settings_without_a_checkpoint_are_a_run(run: Path, whole_run: Path) -> None:
    for path in run.iterdir():
        if path.name != "config.json":
            path.unlink()
    assert main(resume(run)) == 0
    assert_same_run(run, whole_run)


def test_metrics_without_a_checkpoint_are_kept(run: Path, capsys) -> None:
    (run / "checkpoint.pt").unlink()
    before = contents(run)
    assert "checkpoint.pt is missing, but metrics.jsonl has epochs" in error_line(resume(run), capsys)
    assert contents(run) == before


def test_every_flipped_bit_of_a_checkpoint_is_found(run: Path, capsys) -> None:
    content = (run / "checkpoint.pt").read_bytes()
    tail = range(8 * len(content) - 8 * 100, 8 * len(content), 7)
    for bit in [*np.random.default_rng(0).integers(0, 8 * len(content), 200).tolist(), *tail]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="damaged"):
            checkpoint_file.decode(bytes(flipped))
    (run / "checkpoint.pt").write_bytes(flipped)
    assert "checkpoint.pt is not a checkpoint: it" in error_line(resume(run), capsys)


@pytest.mark.parametrize("length", [0, 1, 22, 71, 1000, -1, -71, -72])
def test_cut_checkpoints_are_found(length: int, run: Path, capsys) -> None:
    path = run / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:length])
    assert "checkpoint.pt is not a checkpoint: it" in error_line(resume(run), capsys)


def test_checkpoints_are_plain_archives(run: Path) -> None:
    assert zipfile.ZipFile(run / "checkpoint.pt").testzip() is None
    assert len(torch.load(run / "checkpoint.pt", weights_only=True)["history"]) == 1


def wrong_states(state: dict[str, Any]) -> Iterator[Any]:
    yield []
    yield {}
    yield {**state, "history": 3}
    yield {**state, "history": [1]}
    yield {name: value for name, value in state.items() if name != "optimizer"}
    yield {**state, "net": {}}
    yield {**state, "net": {name: tensor[:1] for name, tensor in state["net"].items()}}
    yield {**state, "generator": torch.zeros(3)}
    yield {**state, "scheduler": None}
    yield {**state, "n_rows": 5}
    yield {**state, "progress": {"order": torch.zeros(360, dtype=torch.int64)}}
    yield {**state, "progress": {"colour": "red"}}


def test_wrong_content_is_one_line(run: Path, capsys) -> None:
    path = run / "checkpoint.pt"
    for state in wrong_states(torch.load(path, weights_only=True)):
        path.write_bytes(checkpoint_file.encode(state))
        assert str(path) in error_line(resume(run), capsys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch must be an integer >= 1, got 0"),
        ({"batch": "60"}, "batch must be an integer >= 1, got '60'"),
        ({"batch": True}, "batch must be an integer >= 1, got True"),
        ({"threads": 1000000000}, "threads must be an integer in 1..1024, got 1000000000"),
        ({"engine": "nope"}, "engine must be a text out of exact, "),
        ({"seed": -1}, "seed must be an integer in 0..9223372036854775807, got -1"),
        ({"epochs": -1}, "epochs must be an integer >= 1, got -1"),
        ({"lr": float("nan")}, "lr must be a finite number >= 5e-324, got nan"),
        ({"lr": None}, "lr must be a finite number >= 5e-324, got None"),
        ({"device": "tpu"}, "device must be a text out of cpu, cuda, cuda:N, got 'tpu'"),
        ({"data": "x" * 1000}, "data must be a text out of auto, mnist, digits, fashion, got 'xxx"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
        ({"digits": 3}, "config.json was changed: digits must be 2, as in checkpoint.pt, got 3"),
        ({"batch": 30}, "config.json was changed: batch must be 60, as in checkpoint.pt, got 30"),
        ({"epochs": 1}, "config.json was changed: epochs must be 2, as in checkpoint.pt, got 1"),
    ],
)
def test_changed_settings_are_one_line(changes: dict[str, Any], message: str, run: Path, capsys) -> None:
    path = run / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "settings": {**config["settings"], **changes}}))
    line = error_line(resume(run), capsys)
    assert str(path) in line
    assert message in line
    assert len(line) < 600


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"settings": 3}', "\0", "[" * 100000, "é".encode("latin-1")])
def test_other_files_in_place_of_settings_are_one_line(text: str | bytes, run: Path, capsys) -> None:
    (run / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert f"{run / 'config.json'} is not the config of a run" in error_line(resume(run), capsys)


def test_a_run_may_go_on_with_other_threads(run: Path) -> None:
    path = run / "config.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2'))
    assert main(resume(run)) == 0


def test_folders_of_earlier_versions_are_resumed(run: Path, whole_run: Path) -> None:
    """Their checkpoints have no checksum, and no settings, progress or number of rows."""
    path = run / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for name in ("settings", "progress", "n_rows"):
        del state[name]
    torch.save(state, path)
    (run / ".lock").unlink()
    assert main(resume(run)) == 0
    assert_same_run(run, whole_run)


def test_a_full_disk_keeps_the_last_checkpoint(run: Path, whole_run: Path, capsys) -> None:
    """The limit lets the metrics pass, but no checkpoint."""
    before = (run / "checkpoint.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        line = error_line(resume(run), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"checkpoint.pt could not be written: File too large; make room, then go on with --resume {run}" in line
    assert (run / "checkpoint.pt").read_bytes() == before
    assert not list(run.glob("*.partial"))
    assert main(resume(run)) == 0
    assert_same_run(run, whole_run)


def test_a_full_disk_at_the_start_leaves_a_folder_that_can_be_resumed(tmp_path: Path, whole_run: Path, capsys) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        assert "could not be written" in error_line(arguments(tmp_path), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert main(resume(tmp_path)) == 0
    assert_same_run(tmp_path, whole_run)


def test_a_lock_waits_for_a_patient_one(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DataError, match="is in use by process"), locked(tmp_path, patience=0.2):
        pass
