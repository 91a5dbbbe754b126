"""``python -m emnesy_gpu train addition``: options, files, errors, interruption and resumption."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.addition.run import AdditionRunner
from emnesy_gpu.tasks.core import progress
from emnesy_gpu.tasks.files.errors import MissingExtraError
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.mnist import idx_files
from tests.train_runs import assert_same_run, error_line, figures, interrupt_in_epoch_2, no_mnist_at_hand, weights  # noqa: F401

QUICK = ["train", "addition", "--data", "digits", "--digits", "2", "--epochs", "2", "--batch", "60", "--threads", "1"]
RECORD = {
    "epoch": 1,
    "loss": 1.0,
    "log_evidence": -1.0,
    "sum_accuracy": 0.5,
    "digit_accuracy": 0.75,
    "seconds_e": 0.1,
    "seconds_m": 0.2,
}


def test_a_run_reports_plain_lines_and_writes_its_files(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*QUICK, "--views", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "by the mean of 2 warped views and the image itself: whole sums" in text
    assert "\x1b" not in text
    assert "\r" not in text
    assert "data: scikit-learn's bundled digits" in text
    assert len(re.findall(r"^epoch \d/2  loss .* evidence .* sums .* digits .* E .* M .*$", text, re.MULTILINE)) == 2
    names = {".lock", "config.json", "metrics.jsonl", "checkpoint.pt", "curve.png", "summary.json"}
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert summary["sum_accuracy"] == figures(out)[-1]["sum_accuracy"]
    assert summary["test_sums"] == 357 // 4
    assert {"sum_accuracy_20", "digit_accuracy", "digit_accuracy_views", "minutes"} <= set(summary)
    assert json.loads((out / "config.json").read_text())["settings"]["batch"] == 60
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_continues_to_the_bit(tmp_path, capsys, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*QUICK, "--out", str(whole)]) == 0
    interrupt_in_epoch_2([*QUICK, "--out", str(cut)], monkeypatch)
    assert "interrupted after 1 of 2 epochs" in capsys.readouterr().out
    assert not (cut / "summary.json").exists()
    assert main(["train", "addition", "--resume", str(cut)]) == 0
    assert_same_run(whole, cut)
    assert main(["train", "addition", "--resume", str(cut)]) == 0
    assert len(figures(cut)) == 2


def test_interruption_between_checkpoint_and_metrics(tmp_path, capsys, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*QUICK, "--out", str(whole)]) == 0

    def interrupt(self: RunDirectory, record: dict) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_metrics", interrupt)
        assert main([*QUICK, "--out", str(cut)]) == 130
    assert "interrupted after 1 of 2 epochs" in capsys.readouterr().out
    assert main(["train", "addition", "--resume", str(cut)]) == 0
    assert figures(cut) == figures(whole)


def test_interruption_of_the_checkpoint_itself(tmp_path, capsys, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*QUICK, "--out", str(whole)]) == 0
    save = torch.save

    def interrupt_after_an_epoch(state: dict, file: io.BytesIO) -> None:
        if state["history"]:
            file.write(b"half a checkpoint")
            raise KeyboardInterrupt
        save(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupt_after_an_epoch)
        assert main([*QUICK, "--out", str(cut)]) == 130
    assert "interrupted after 0 of 2 epochs" in capsys.readouterr().out
    assert {path.name for path in cut.iterdir()} == {".lock", "config.json", "checkpoint.pt"}
    assert main(["train", "addition", "--resume", str(cut)]) == 0
    assert figures(cut) == figures(whole)


def test_interruption_without_a_folder(capsys, monkeypatch):
    def interrupt(self: progress.PlainReporter, epoch: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.PlainReporter, "epoch_begins", interrupt)
    assert main(QUICK) == 130
    assert "nothing was saved" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_control_c_ends_a_process_cleanly(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "emnesy_gpu", *QUICK, "--epochs", "1000", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not (out / "metrics.jsonl").exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            text, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert errors == ""
    assert f"continue with: python -m emnesy_gpu train addition --resume {out}" in text
    assert torch.load(out / "checkpoint.pt", weights_only=True)["history"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command: one of bench, data, doctor"),
        (["train"], "Missing command: one of addition, formula"),
        (["fly"], "No such command 'fly'"),
        (["bnech"], "No such command 'bnech'. Did you mean 'bench'?"),
        (["train", "addition", "--digts", "4"], "'--digits'?) See emnesy train addition --help."),
        (["reproduce", "al"], "Invalid value for 'TASK'"),
        (["bench", "addition", "--device", "tpu"], "'tpu' is none of cpu, cuda and cuda:N"),
        (["bench", "addition", "--device", "cuda:63"], "PyTorch finds"),
        (["bench", "addition", "--seconds", "0"], "--seconds"),
        (["train", "addition", "--digits", "0"], "--digits"),
        (["train", "addition", "--digits", "x"], "--digits"),
        (["train", "addition", "--lr", "0"], "--lr"),
        (["train", "addition", "--m-steps", "0"], "--m-steps"),
        (["train", "addition", "--seed", "-1"], "--seed"),
        (["train", "addition", "--colour", "red"], "--colour"),
        (["train", "addition", "--device", "tpu"], "'tpu' is none of cpu, cuda and cuda:N"),
        (["train", "addition", "--engine", "magic"], "--engine"),
        ([*QUICK, "--digits", "200"], "needs 400 images"),
        ([*QUICK, "--holdout", "5000"], "cannot hold out 5000 of 1440"),
        ([*QUICK, "--hard", "--engine", "exact"], "hard=True"),
        ([*QUICK, "--device", "cuda:63"], "PyTorch finds"),
        ([*QUICK[:2], "--data", "mnist", "--data-dir", "/nowhere"], "has no MNIST file"),
        ([*QUICK[:2], "--resume", "/nowhere"], "holds no run"),
        ([*QUICK[:2], "--resume", "/nowhere", "--seed", "1", "--no-augment"], "leave out"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert message in error_line(arguments, capsys)


def test_a_used_folder_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert "holds a run already" in error_line([*QUICK, "--out", str(tmp_path)], capsys)


def test_corrupt_mnist_is_one_line(tmp_path, capsys):
    for stem in idx_files.MD5:
        (tmp_path / stem).write_bytes(b"junk")
    text = error_line(["train", "addition", "--data-dir", str(tmp_path)], capsys)
    assert "train-images-idx3-ubyte is not an IDX file" in text


@pytest.mark.parametrize("package", ["sklearn", "matplotlib"])
def test_a_missing_extra_is_one_line_with_the_remedy(package, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    text = error_line([*QUICK, "--out", str(tmp_path / "run")], capsys)
    assert f'{package} is not installed: pip install "emnesy_gpu[train]"' in text


def test_require_passes_other_import_errors_on(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import emnesy_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="emnesy_missing_dependency") as caught:
        require("broken_extra")
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.parametrize("command", [[], ["train"], ["train", "addition"]])
def test_help(command, capsys):
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: emnesy")
    if "addition" in command:
        for option in ("digits", "data", "data-dir", "engine", "hard", "m-steps", "augment", "no-augment", "seed"):
            assert f"--{option}" in text
        for option in ("epochs", "batch", "lr", "device", "threads", "out", "resume", "holdout"):
            assert f"--{option}" in text


def test_version(capsys):
    import emnesy_gpu

    assert main(["--version"]) == 0
    assert emnesy_gpu.__version__ in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_of_80_columns_gets_a_live_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    with progress.reporter(30, 300, AdditionRunner.accuracies, terminal) as report:
        assert isinstance(report, progress.LiveReporter)
        report.epoch_begins(1)
        report.epoch_ends(RECORD)
        report.epoch_begins(29)
        report.batch({"loss": 1.25, "log_evidence": -2.5, "seconds_e": 0.5, "seconds_m": 1.5})
        report.bar.refresh()
    line = next(line for line in re.split(r"[\r\n]", terminal.getvalue()) if "batches/s" in line)
    assert all(words in line for words in ("epoch 29/30", "1/300", "loss 1.250", "sums 50.00 %")), line
    assert "…" not in line


def test_a_pipe_gets_plain_lines():
    pipe = io.StringIO()
    with progress.reporter(10, 3, AdditionRunner.accuracies, pipe) as report:
        report.epoch_begins(1)
        report.batch({})
        report.epoch_ends(RECORD)
    line = "epoch  1/10  loss 1.0000  evidence -1.0000  sums 50.00 %  digits 75.00 %  E 0.10 s  M 0.20 s"
    assert pipe.getvalue() == f"{line}  0 s left\n"


def test_plain_lines_say_how_long_the_rest_takes(monkeypatch):
    clock = iter([100.0, 130.0, 500.0, 520.0, 540.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    pipe = io.StringIO()
    with progress.reporter(3, 3, AdditionRunner.accuracies, pipe) as report:
        report.epoch_begins(1)
        report.epoch_ends(RECORD)  # of a trial, whose epochs are counted anew by the run
        report.epoch_begins(1)
        report.epoch_ends(RECORD)
        report.epoch_begins(2)
        report.epoch_ends(RECORD | {"epoch": 2})
        report.epoch_begins(3)
        report.epoch_ends(RECORD | {"epoch": 3})
    ends = [line.partition("M 0.20 s")[2] for line in pipe.getvalue().splitlines()]
    assert ends == ["  1 min left", "  40 s left", "  20 s left", ""]
