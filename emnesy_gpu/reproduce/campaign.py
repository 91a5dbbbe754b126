"""Runs experiments in child processes, keeps their records in ``results.jsonl``, and goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from emnesy_gpu.reproduce import records
from emnesy_gpu.reproduce.claims import Claims
from emnesy_gpu.reproduce.protocol import Experiment
from emnesy_gpu.tasks.files.run_directory import replace_file
from emnesy_gpu.tasks.registry import TASKS

FINISHED = ("done", "timeout", "out_of_memory", "diverged")
"""The states that are final: an experiment that failed is run again."""

UNCOLLECTED = "records.jsonl"
"""The file with the records of a sharded campaign in the folder of an experiment."""

GRACE = 20.0
"""Seconds for a child to end after an interruption."""


@dataclass
class Campaign:
    """Experiments to run, and what they share.

    out: folder of ``results.jsonl`` and of the runs. limit_minutes: wall time of an experiment, counted across
    interruptions. jobs: experiments at a time. data_dir: folder of the MNIST files; None takes the places where the
    train commands look. children: starts child processes and ends them. sharded: whether others run their experiments
    in this folder at the same time: records then stay in the folders of the experiments until ``collect``.
    """

    experiments: Sequence[Experiment]
    out: Path
    limit_minutes: float
    device: str = "cpu"
    threads: int = 1
    jobs: int = 1
    data_dir: str | None = None
    sharded: bool = False
    commit: str = field(default_factory=lambda: _commit())
    children: Callable[[], Children] = field(default_factory=lambda: Children)

    @property
    def results(self) -> Path:
        """The file with a record a line."""
        return self.out / "results.jsonl"

    def records(self, complete: bool = False) -> list[dict[str, Any]]:
        """Return the records of all finished experiments; ``complete`` as for ``records.read``."""
        return records.read(self.results, complete)

    def remaining(self) -> list[Experiment]:
        """Return the experiments without a final record, be it in the file or in the folder of the experiment."""
        found = self.records() + [record for path in self._uncollected() for record in records.read(path)]
        done = {record["key"] for record in found if record["status"] in FINISHED}
        return [experiment for experiment in self.experiments if experiment.key not in done]

    def collect(self) -> None:
        """Move the records that sharded campaigns have left into the file."""
        for path in self._uncollected():
            known = self.records()
            records.append(self.results, [record for record in records.read(path) if record not in known])
            path.unlink()

    def _uncollected(self) -> list[Path]:
        """Return the files of records in folders of experiments."""
        return sorted(self.out.glob(f"runs/*/{UNCOLLECTED}"))

    def run(self) -> Iterator[tuple[Experiment, list[dict[str, Any]]]]:
        """Run what remains, but for what others run; yields each experiment with its records, which it has written.

        Ctrl-C stops the children, which keep the checkpoints of their last finished epochs.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        queue, running = self.remaining(), dict[Future[list[dict[str, Any]]], tuple[Experiment, Path]]()
        with Claims() as claims, ThreadPoolExecutor(self.jobs) as pool, self.children() as children:
            while queue or running:
                while queue and len(running) < self.jobs:
                    experiment = queue.pop(0)
                    claim = self._claim(experiment, claims)
                    if claim is not None:
                        running[pool.submit(self._run_one, experiment, children)] = experiment, claim
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    experiment, claim = running.pop(future)
                    found = future.result()
                    if claims.holds(claim):
                        self._store(experiment, found)
                    claims.release(claim)
                    yield experiment, found

    def folder(self, experiment: Experiment) -> Path:
        """Return where the run of an experiment and its log are."""
        return self.out / "runs" / experiment.key

    def _claim(self, experiment: Experiment, claims: Claims) -> Path | None:
        """Claim an experiment; None where another process has it, or has finished it meanwhile."""
        claim = claims.take(self.folder(experiment))
        if claim is not None and experiment not in self.remaining():
            claims.release(claim)
            return None
        return claim

    def _store(self, experiment: Experiment, found: list[dict[str, Any]]) -> None:
        if self.sharded:
            text = "".join(json.dumps(record) + "\n" for record in found)
            replace_file(self.folder(experiment) / UNCOLLECTED, lambda partial: partial.write_text(text))
        else:
            records.append(self.results, found)

    def _run_one(self, experiment: Experiment, children: Children) -> list[dict[str, Any]]:
        folder = self.folder(experiment)
        job, result, clock = folder / "job.json", folder / "result.json", Clock(folder / "seconds.json")
        arguments = self.arguments(experiment)
        job.write_text(
            json.dumps(
                {
                    "experiment": experiment.to_dict(),
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
        return [{**self._common(experiment, arguments), **record} for record in found]

    def arguments(self, experiment: Experiment) -> list[str]:
        """Return the arguments of the train command; none for single E-steps."""
        if experiment.kind == "e_step":
            return []
        folder = ["--data-dir", self.data_dir] if self.data_dir and TASKS[experiment.task].reads_mnist else []
        return [*experiment.arguments(), "--threads", str(self.threads), "--device", self.device, *folder]

    def _common(self, experiment: Experiment, arguments: list[str]) -> dict[str, Any]:
        command = f"train {' '.join(arguments)}"
        if experiment.kind == "e_step":
            name = TASKS[experiment.task].size_option
            command = f"bench {experiment.task} --{name} {experiment.size} --batch {experiment.batch}"
        return {
            **experiment.to_dict(),
            "key": experiment.key,
            "limit_minutes": self.limit_minutes,
            "threads": self.threads,
            "command": f"python -m emnesy_gpu {command}",
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


class Clock:
    """Adds the seconds of a ``with`` block to those in a file, however the block ends; ``before`` is what was there.

    A file that a crash cut off counts as 0 seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.before = path, 0.0
        with contextlib.suppress(OSError, ValueError):
            seconds = float(path.read_text())
            self.before = seconds if 0 <= seconds < math.inf else 0.0

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *ignored: object) -> None:
        text = json.dumps(self.before + time.monotonic() - self.start)
        replace_file(self.path, lambda partial: partial.write_text(text))


class Children:
    """Child processes, which end with the ``with`` block.

    Each has a pipe to this process as its standard input. The system closes it when this process ends, however it ends:
    that is the sign for the child to end too.
    """

    def __init__(self) -> None:
        self.alive: set[subprocess.Popen[bytes]] = set()

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *ignored: object) -> None:
        for child in list(self.alive):
            child.send_signal(signal.SIGINT)
        for child in list(self.alive):
            _end(child, GRACE)

    def run(self, command: list[str], log: Any, seconds: float) -> int | None:
        """Run a command to its end; returns the exit code, or None where the time was over."""
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.alive.add(child)
        try:
            return child.wait(max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            _end(child, 0.0)
            return None
        finally:
            self.alive.discard(child)
            if child.stdin is not None:
                child.stdin.close()


def _end(child: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _commit() -> str:
    """Return the commit of the checkout that this package runs from, or else the version of the package."""
    from emnesy_gpu.version import __version__

    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        here = Path(__file__).parent
        words = ["git", "-C", str(here), "describe", "--always", "--dirty"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return f"emnesy_gpu {__version__}"
