"""Runs cells as child processes, one line of ``results.jsonl`` for each finished one, and goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from emnesy_gpu.reproduce.protocol import Cell

FINISHED = ("done", "timeout", "out_of_memory", "diverged")
"""What is not run again; failures are."""

GRACE = 20.0
"""Seconds for a child to end after an interruption."""


@dataclass
class Campaign:
    """Cells to run, and what they share.

    out: folder of ``results.jsonl`` and of the runs. limit_minutes: wall time of a cell, kept across interruptions.
    data_dir: of MNIST, None for the places where the train commands look. jobs: cells at a time.
    """

    cells: Sequence[Cell]
    out: Path
    limit_minutes: float
    device: str = "cpu"
    threads: int = 1
    jobs: int = 1
    data_dir: str | None = None
    commit: str = field(default_factory=lambda: _commit())

    @property
    def results(self) -> Path:
        return self.out / "results.jsonl"

    def records(self) -> list[dict[str, Any]]:
        """Of all finished cells; a line that a crash cut off counts as not written."""
        records = []
        if self.results.exists():
            for line in self.results.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    records.append(json.loads(line))
        return records

    def remaining(self) -> list[Cell]:
        done = {record["key"] for record in self.records() if record["status"] in FINISHED}
        return [cell for cell in self.cells if cell.key not in done]

    def run(self) -> Iterator[tuple[Cell, list[dict[str, Any]]]]:
        """Run what remains; yields each cell with its records, which are in the file by then.

        Ctrl-C stops the children, which keep the checkpoints of their last finished epochs.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        queue, running = self.remaining(), dict[Future[list[dict[str, Any]]], Cell]()
        with ThreadPoolExecutor(self.jobs) as pool, _Children() as children:
            while queue or running:
                while queue and len(running) < self.jobs:
                    cell = queue.pop(0)
                    running[pool.submit(self._run_cell, cell, children)] = cell
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    cell = running.pop(future)
                    records = future.result()
                    self.append(records)
                    yield cell, records

    def _run_cell(self, cell: Cell, children: _Children) -> list[dict[str, Any]]:
        folder = self.out / "runs" / cell.key
        folder.mkdir(parents=True, exist_ok=True)
        job, result, clock = folder / "job.json", folder / "result.json", Clock(folder / "seconds.json")
        arguments = self.arguments(cell)
        job.write_text(
            json.dumps(
                {
                    "cell": cell.to_dict(),
                    "folder": str(folder / "run"),
                    "arguments": arguments,
                    "device": self.device,
                    "threads": self.threads,
                }
            )
        )
        with (folder / "log.txt").open("a") as log, clock:
            left = 60 * self.limit_minutes - clock.before
            code = children.run([sys.executable, "-m", "emnesy_gpu.reproduce.worker", str(job), str(result)], log, left)
        found = [self._failure(code, folder)] if code != 0 else json.loads(result.read_text())
        return [{**self._common(cell, arguments), **record} for record in found]

    def arguments(self, cell: Cell) -> list[str]:
        """Of the train command; empty for single E-steps."""
        if cell.kind == "e_step":
            return []
        folder = ["--data-dir", self.data_dir] if self.data_dir and cell.task != "warcraft" else []
        return [*cell.arguments(), "--threads", str(self.threads), "--device", self.device, *folder]

    def _common(self, cell: Cell, arguments: list[str]) -> dict[str, Any]:
        command = f"python -m emnesy_gpu train {' '.join(arguments)}"
        if cell.kind == "e_step":
            name = {"addition": "digits", "sudoku": "size"}[cell.task]
            command = f"python -m emnesy_gpu bench {cell.task} --{name} {cell.size} --batch {cell.batch}"
        return {
            **cell.to_dict(),
            "key": cell.key,
            "limit_minutes": self.limit_minutes,
            "threads": self.threads,
            "command": command,
            "commit": self.commit,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "error": None,
        }

    def _failure(self, code: int | None, folder: Path) -> dict[str, Any]:
        done = _lines(folder / "run" / "metrics.jsonl")
        if code is None:
            return {"status": "timeout", "epochs": done, "figures": {}, "history": []}
        if code == -signal.SIGKILL:
            return {"status": "out_of_memory", "error": "killed by the system", "epochs": done, "figures": {}}
        lines = (folder / "log.txt").read_text().strip().splitlines() or [""]
        return {"status": "failed", "error": f"exit code {code}: {lines[-1]}", "epochs": done, "figures": {}}

    def append(self, records: list[dict[str, Any]]) -> None:
        """Each on a line of its own, whatever the file ends with."""
        ends_well = not self.results.exists() or self.results.read_text()[-1:] in ("", "\n")
        with self.results.open("a") as file:
            file.write("\n" * (not ends_well) + "".join(json.dumps(record) + "\n" for record in records))


class Clock:
    """Adds the seconds of a ``with`` block to those in a file, however it ends; ``before`` is what was there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before: float = json.loads(path.read_text()) if path.exists() else 0.0

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *ignored: object) -> None:
        self.path.write_text(json.dumps(self.before + time.monotonic() - self.start))


class _Children:
    """Child processes that end with the ``with`` block."""

    def __init__(self) -> None:
        self.alive: set[subprocess.Popen[bytes]] = set()

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *ignored: object) -> None:
        for child in list(self.alive):
            child.send_signal(signal.SIGINT)
        for child in list(self.alive):
            _end(child, GRACE)

    def run(self, command: list[str], log: Any, seconds: float) -> int | None:
        """The exit code, or None where the time was over."""
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.alive.add(child)
        try:
            return child.wait(max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            _end(child, 0.0)
            return None
        finally:
            self.alive.discard(child)


def _end(child: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _commit() -> str:
    """Of the checkout that this package runs from, or the version of the package."""
    from emnesy_gpu.version import __version__

    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        here = Path(__file__).parent
        words = ["git", "-C", str(here), "describe", "--always", "--dirty"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return f"emnesy_gpu {__version__}"
