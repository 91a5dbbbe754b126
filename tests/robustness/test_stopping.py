"""Signals end a run: they save its state between two batches, and it goes on there to the bit."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.addition import run as addition_run
from emnesy_gpu.tasks.addition.training import AdditionTraining
from emnesy_gpu.tasks.core import runner as core_runner
from emnesy_gpu.tasks.core import stop_signals
from emnesy_gpu.tasks.core.stop_signals import GRACE, Stopped, StopSignals
from emnesy_gpu.tasks.core.training import EMTraining
from emnesy_gpu.tasks.mnist import row_runner
from tests.robustness.runs import arguments, process, resume, wait_for
from tests.train_runs import assert_same_run, no_mnist_at_hand  # noqa: F401


def test_sigterm_ends_a_process_and_says_how_to_continue(tmp_path: Path) -> None:
    child = process(arguments(tmp_path, epochs=1000))
    try:
        wait_for((tmp_path / "metrics.jsonl").exists, child)
        began = time.monotonic()
        child.terminate()
        text, errors = child.communicate(timeout=30)
    finally:
        child.kill()
    assert time.monotonic() - began < GRACE
    assert child.returncode == 143
    assert errors == ""
    assert f"continue with: python -m emnesy_gpu train addition --resume {tmp_path}" in text


class Batches:
    """Sends signals to this process in chosen batches, counted over the whole run."""

    def __init__(self, patch: pytest.MonkeyPatch, *chosen: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.count, step = 0, EMTraining._step

        def counted(training: EMTraining, *arguments: torch.Tensor) -> dict[str, float]:
            self.count += 1
            if self.count in chosen:
                signal.raise_signal(number)
            return step(training, *arguments)

        patch.setattr(EMTraining, "_step", counted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_has_its_exit_code(number: signal.Signals, tmp_path: Path, monkeypatch, capsys) -> None:
    Batches(monkeypatch, 8, number=number)
    assert main(arguments(tmp_path)) == 128 + number
    text = capsys.readouterr().out
    assert "interrupted after 1 of 2 epochs and 2 of 6 batches; continue with: python -m emnesy_gpu train" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_data_are_read_is_one_line(number: signal.Signals, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(addition_run, "start", lambda *_, **__: signal.raise_signal(number))
    assert main(arguments(tmp_path)) == 128 + number
    assert capsys.readouterr().err.strip() == f"emnesy: error: interrupted by {number.name}"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("options", [(), ("--engine", "gibbs", "--digits", "1"), ("--m-steps", "2", "--augment")])
def test_a_run_goes_on_in_the_middle_of_an_epoch(options: tuple[str, ...], tmp_path: Path, monkeypatch, capsys) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*arguments(whole), *options]) == 0
    with monkeypatch.context() as patch:
        Batches(patch, 2)
        assert main([*arguments(cut), *options]) == 143
        assert "interrupted after 0 of 2 epochs and 2 of" in capsys.readouterr().out
    n_batches = torch.load(cut / "checkpoint.pt", weights_only=True)["progress"]["order"].split(60)
    with monkeypatch.context() as patch:
        Batches(patch, len(n_batches) + 1)
        assert main(resume(cut)) == 143
        text = capsys.readouterr().out
        assert "resuming" in text
        assert "interrupted after 1 of 2 epochs and 3 of" in text
    assert main(resume(cut)) == 0
    assert_same_run(whole, cut)


def test_a_long_epoch_is_saved_in_its_middle(tmp_path: Path, monkeypatch) -> None:
    """The second signal ends a run at once: what was saved last counts."""

    def stop_at_once(training: AdditionTraining) -> dict[str, float]:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        return {}

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(arguments(whole)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(core_runner, "SECONDS_BETWEEN_SAVES", 0.0)
        patch.setattr(AdditionTraining, "evaluate", stop_at_once)
        assert main(arguments(cut)) == 143
    assert torch.load(cut / "checkpoint.pt", weights_only=True)["progress"]["batches"] == 6
    assert main(resume(cut)) == 0
    assert_same_run(whole, cut)


def test_a_batch_that_takes_too_long_is_cut(monkeypatch) -> None:
    monkeypatch.setattr(stop_signals, "GRACE", 0.05)

    def long_batch() -> None:
        with StopSignals() as signals, signals.deferred():
            signal.raise_signal(signal.SIGTERM)
            assert signals.noted == signal.SIGTERM
            time.sleep(10)

    began = time.monotonic()
    with pytest.raises(Stopped) as caught:
        long_batch()
    assert time.monotonic() - began < 5
    assert caught.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_compiled_code_makes_an_error_of_its_own(tmp_path: Path, monkeypatch, capsys) -> None:
    def draw(*arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        except KeyboardInterrupt:
            raise ValueError("Invalid bounding box") from None

    monkeypatch.setattr(row_runner, "save_learning_curve", draw)
    assert main(arguments(tmp_path / "run", 1)) == 128 + signal.SIGHUP
    printed = capsys.readouterr()
    assert "continue with: python -m emnesy_gpu train addition --resume" in printed.out
    assert "bounding box" not in printed.err


def test_an_error_before_any_signal_stays_what_it_is() -> None:
    def fail() -> None:
        with StopSignals() as signals, signals.deferred():
            signal.raise_signal(signal.SIGTERM)  # is only noted
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        fail()


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
