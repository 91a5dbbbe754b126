"""What tests of train commands share: no data at hand, one-line errors, and runs that are cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.core import progress


@pytest.fixture(autouse=True)
def no_mnist_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test may find MNIST or use more than its threads; a test module imports it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EMNESY_DATA", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def error_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Standard error of a failing call, which must be one line."""
    assert main(arguments) not in (0, None)
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith("emnesy: error: ")
    return text


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in record.items() if "seconds" not in name} for record in history]


def figures(run: Path) -> list[dict[str, float]]:
    """The records of the epochs of a run without their times."""
    return without_times([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()])


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoint.pt", weights_only=True)["net"]


def interrupt_in_epoch_2(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a train command until Ctrl-C in its second epoch."""

    def interrupt(self: progress.PlainReporter, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress.PlainReporter, "epoch_begins", interrupt)
        assert main([*arguments]) == 130


def assert_same_run(whole: Path, cut: Path) -> None:
    """Two runs have the same figures and the same weights to the bit."""
    assert figures(whole) == figures(cut)
    torch.testing.assert_close(weights(whole), weights(cut), rtol=0, atol=0)
