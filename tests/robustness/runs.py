"""A short training run in a folder, as processes and as calls, for tests of its files and its end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from emnesy_gpu.tasks.addition.run import AdditionRunner
from emnesy_gpu.tasks.files.settings import fill_in

OPTIONS = ("--data", "digits", "--digits", "2", "--batch", "60", "--no-augment", "--threads", "1")
TRAIN = ("train", "addition")


def arguments(out: Path, epochs: int = 2) -> list[str]:
    """Return those of a new run."""
    return [*TRAIN, *OPTIONS, "--epochs", str(epochs), "--out", str(out)]


def resume(out: Path) -> list[str]:
    return [*TRAIN, "--resume", str(out)]


def process(words: Sequence[str]) -> subprocess.Popen[str]:
    """Start the command line as a process of its own."""
    command = [sys.executable, "-m", "emnesy_gpu", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(happened: Callable[[], bool], child: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Wait until something has happened, while a process lives."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runner(out: Path, epochs: int = 2) -> AdditionRunner:
    """Return a new run as an object."""
    options = {"data": "digits", "digits": 2, "batch": 60, "augment": False, "threads": 1, "epochs": epochs}
    return AdditionRunner.start(out, **fill_in(options, {"lr": 4e-3, "views": 0}, ()))
