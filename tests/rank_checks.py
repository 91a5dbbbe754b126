"""Train commands that ``tests.ranks`` calls on every rank, with a folder for files that the ranks share."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterator
from pathlib import Path

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.core.distributed import current
from emnesy_gpu.tasks.core.training import EMTraining
from emnesy_gpu.tasks.files.folder_lock import locked

COMMON = ("--data", "digits", "--threads", "1", "--epochs", "2")
RUNS = {
    "addition": ("addition", "--digits", "2", "--batch", "61", *COMMON),
    "gibbs": ("addition", "--digits", "1", "--batch", "359", "--engine", "gibbs", "--m-steps", "2", *COMMON),
    "sudoku": ("sudoku", "--batch", "41", "--restarts", "2", *COMMON),
    "warcraft": ("warcraft", *COMMON, "--data", "synthetic", "--maps", "16", "--samples", "16", "--batch", "5"),
}
"""Name -> a train command, with batches that two ranks do not share equally. "gibbs" ends in a batch of one row."""

MORE = {
    "windows": ("warcraft", *COMMON, "--data", "synthetic", "--size", "18", "--maps", "8", "--samples", "16"),
    "hard": ("addition", "--digits", "2", "--batch", "61", "--hard", *COMMON),
    "formula": ("formula", "--symbols", "3", "--batch", "61", *COMMON),
    "rules": ("rules", "--rule", "parity", "--symbols", "2", "--batch", "61", *COMMON),
}
"""The same for longer tests."""

STOPPED = (*RUNS["addition"], "--epochs", "3")
BATCH_OF_SIGNAL = 8


def train(*words: str) -> tuple[int, str]:
    """Run a train command: its exit code, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            code = main(["train", *words])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue()


def train_all(folder: Path) -> None:
    """Every run of ``RUNS``, of which the first rank alone prints something."""
    _train(RUNS, folder)


def train_more(folder: Path) -> None:
    """Every run of ``MORE``."""
    _train(MORE, folder)


def _train(runs: dict[str, tuple[str, ...]], folder: Path) -> None:
    for name, words in runs.items():
        code, text = train(*words, "--out", str(folder / name))
        assert code == 0, text
        assert bool(text) == (current().rank == 0), text


def stop_by_a_signal_to_one_rank(folder: Path) -> None:
    """SIGTERM to the last rank alone ends all of them after the same batch."""
    with signal_in_batch(BATCH_OF_SIGNAL, only_rank=current().size - 1):
        code, text = train(*STOPPED, "--out", str(folder / "stopped"))
    assert code == 128 + signal.SIGTERM, text
    assert (f"and {BATCH_OF_SIGNAL - 6} of 6 batches; continue with" in text) == (current().rank == 0), text


def go_on(folder: Path) -> None:
    """Resume what one process has begun."""
    code, text = train("addition", "--resume", str(folder / "begun_by_one"))
    assert code == 0, text


def refuse(folder: Path) -> None:
    """The first rank says what is wrong, and the others end without a word."""
    mine = folder / "in_use" if current().rank == 0 else folder / "other"
    with locked(mine):
        code, text = train(*STOPPED, "--out", str(folder / "in_use"))
    assert code == 1, text
    assert ("is in use by process" in text) == (current().rank == 0), text
    code, text = train("addition", "--digits", "1", "--engine", "rloo", *COMMON)
    assert code == 1
    assert "train with it on one process" in text


@contextlib.contextmanager
def signal_in_batch(number: int, only_rank: int) -> Iterator[None]:
    """Send SIGTERM to this process in a batch, counted from 1, if it has this rank."""
    step, count = EMTraining._step, 0

    def counted(*arguments: object) -> dict[str, float]:
        nonlocal count
        count += 1
        if count == number and current().rank == only_rank:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)  # type: ignore[arg-type]

    EMTraining._step = counted  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        EMTraining._step = step  # type: ignore[method-assign]
