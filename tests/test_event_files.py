"""``--tensorboard`` writes the figures of every epoch once, and says what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from emnesy_gpu.cli import main
from tests.train_runs import error_line, interrupt_in_epoch_2, no_mnist_at_hand  # noqa: F401

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
TRAIN = ["train", "addition", "--digits", "2", "--data", "digits", "--epochs", "2", "--threads", "1", "--no-augment"]


def test_every_epoch_is_written_once_though_the_run_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    interrupt_in_epoch_2([*TRAIN, "--out", str(run), "--tensorboard"], monkeypatch)
    assert main(["train", "addition", "--resume", str(run), "--tensorboard"]) == 0
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert set(events.Tags()["scalars"]) == set(records[0]) - {"epoch"}
    for name in ("loss", "sum_accuracy"):
        assert [event.step for event in events.Scalars(name)] == [1, 2]
        assert [event.value for event in events.Scalars(name)] == pytest.approx([record[name] for record in records])


def test_a_missing_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    line = error_line([*TRAIN, "--out", str(tmp_path / "run"), "--tensorboard"], capsys)
    assert 'tensorboard is not installed: pip install "emnesy_gpu[tensorboard]"' in line
    assert not (tmp_path / "run").exists()


def test_it_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --out" in error_line([*TRAIN, "--tensorboard"], capsys)
