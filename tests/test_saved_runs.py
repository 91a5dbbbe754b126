"""Saved runs are judged again and read other images, and damaged ones are errors of one line."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

import emnesy_gpu as em
from emnesy_gpu.cli import main
from emnesy_gpu.tasks import saved_runs
from emnesy_gpu.tasks.registry import TASKS
from tests.robustness.test_data_files import OTHER_FILES
from tests.train_runs import error_line, no_mnist_at_hand  # noqa: F401

pytest.importorskip("sklearn")
TRAIN = ["train", "addition", "--digits", "2", "--data", "digits", "--epochs", "1", "--views", "2", "--threads", "1"]
HUGE_PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\xff\xff" * 2 + b"\1\0\0\0\0\x1b\x32\x64\x11"
"""The header of a picture of 65535 x 65535 pixels."""

TIMES = ("minutes", "cpu_minutes", "minutes_e", "minutes_m")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("saved") / "run"
    assert main([*TRAIN, "--out", str(out)]) == 0
    return out


def test_evaluation_gives_the_figures_of_the_summary_and_writes_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    found, summary = json.loads(capsys.readouterr().out), json.loads((run / "summary.json").read_text())
    assert {name: value for name, value in found.items() if name not in TIMES} == {
        name: value for name, value in summary.items() if name not in TIMES
    }
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def picture(size: tuple[int, int], mode: str = "1") -> bytes:
    image, buffer = pytest.importorskip("PIL.Image"), io.BytesIO()
    image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def test_files_of_other_kinds_are_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((2, 28, 28), np.uint8)
    files = {f"{kind}.npy": make(pixels) for kind, make in OTHER_FILES.items()}
    small = picture((28, 28))
    files |= {"empty.png": b"", "cut.png": small[:40], "broken.png": small[:-20] + b"garbage", "huge.png": HUGE_PICTURE}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert name in error_line(["predict", str(run), str(tmp_path / name)], capsys)
    for settings in ([1, 2], "text", None, {"1": 2}):
        (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
        assert str(tmp_path) in error_line(["evaluate", str(tmp_path)], capsys)


def test_rows_and_single_images_are_read(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = saved_runs.open_run(run).training
    rows = training.test.index[:3]
    np.save(tmp_path / "rows.npy", training.test.images.pixels[rows].numpy())
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "rows.npy")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predicted = training.predict(training.test.images.pixels)
    assert [line["classes"] for line in lines] == predicted[rows].tolist()
    assert [line["label"] for line in lines] == training.problem.label(predicted[rows]).tolist()
    image = pytest.importorskip("PIL.Image")
    image.fromarray(training.test.images.pixels[5].numpy()).save(tmp_path / "one.png")
    assert main(["predict", str(run), str(tmp_path / "one.png"), "--out", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as found:
        assert found["classes"].tolist() == [int(predicted[5])]
        assert found["probabilities"].sum(-1) == pytest.approx([1.0])
        assert "label" not in found


def test_one_posterior_is_explained(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["explain", str(run), "--row", "3", "--top", "2", "--out", str(tmp_path / "row.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    training = saved_runs.open_run(run).training
    pixels, label, problem = training.test_rows(slice(3, 4))
    told = em.explain(problem, training.read(pixels), label, k=2)
    assert lines == [*str(told).splitlines(), f"written: {tmp_path / 'row.png'}"]
    assert len(told.assignments) == 2
    assert (tmp_path / "row.png").read_bytes().startswith(b"\x89PNG")
    last = len(training.test.index) - 1
    assert f"from 0 to {last}" in error_line(["explain", str(run), "--row", str(last + 1)], capsys)
    assert "must be a .png file" in error_line(["explain", str(run), "--out", "row.txt"], capsys)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 28, 27), np.uint8), r"images must be uint8 \[n, ..., 28, 28\]"),
        (np.zeros((2, 28, 28), np.float32), "must hold uint8 pixels, 0..255, got float32"),
        (np.zeros((0, 28, 28), np.uint8), "images must be uint8"),
    ],
)
def test_wrong_images_are_one_line(
    run: Path, tmp_path: Path, array: np.ndarray, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "wrong.npy", array)
    capsys.readouterr()
    line = error_line(["predict", str(run), str(tmp_path / "wrong.npy")], capsys)
    assert re.search(message, line)


def test_what_is_no_run_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert "holds no run" in error_line(["evaluate", str(tmp_path)], capsys)
    (tmp_path / "config.json").write_text('{"settings": {"digits": 2}}')
    assert "settings of no task" in error_line(["evaluate", str(tmp_path)], capsys)
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    assert "has no checkpoint yet" in error_line(["evaluate", str(tmp_path)], capsys)
    content = bytearray((run / "checkpoint.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert "it is damaged" in error_line(["predict", str(tmp_path), str(run / "curve.png")], capsys)


def test_settings_tell_tasks_apart() -> None:
    names = [frozenset(task.settings.__dataclass_fields__) for task in TASKS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_maps_are_read_with_their_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--maps", "40", "--epochs", "1", "--restarts", "1", "--data", "synthetic", "--threads", "1"]
    assert main(["train", "warcraft", *arguments, "--out", str(tmp_path / "run")]) == 0
    np.save(tmp_path / "maps.npy", np.zeros((1, 32, 40, 3), np.uint8))
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "maps.npy")]) == 0
    line = json.loads(capsys.readouterr().out)
    assert main(["explain", str(tmp_path / "run")]) == 0
    assert "log p(label)" in capsys.readouterr().out
    assert (np.shape(line["classes"]), np.shape(line["label"])) == ((4, 5), (4, 5))
