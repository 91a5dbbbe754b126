"""Many valid and wrong calls, kills and damaged files: ``python -m tests.robustness.soak --minutes 60``.

Prints the seed of everything, counts and losses, and writes them as JSON. A loss names the seed that repeats it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu import logic
from emnesy_gpu.cli import main
from emnesy_gpu.tasks.warcraft import files as map_files
from emnesy_gpu.tasks.warcraft import synthetic
from emnesy_gpu.version import __version__
from tests.robustness import damage
from tests.robustness.kernel_programs import Program
from tests.robustness.runs import arguments
from tests.robustness.valid_calls import valid_call
from tests.robustness.wrong_calls import wrong_call
from tests.train_runs import interrupt_in_epoch_2

MAP_SIZE = 12
MOST_LOSSES = 20
"""Losses that are kept in full."""

SPAWN_EVERY = 5
"""Turns between processes that are spawned: their imports take longer than their calls."""


class Soak:
    """Counts what was tried, and keeps what was lost."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.counts: Counter[str] = Counter()
        self.losses: list[str] = []

    def prepare(self) -> None:
        """Make the runs, maps, circuits and kernels that are damaged later."""
        self.whole, self.half, self.maps = (self.folder / name for name in ("whole", "half", "maps"))
        assert main(arguments(self.whole, damage.EPOCHS)) == 0
        with pytest.MonkeyPatch.context() as patch:
            interrupt_in_epoch_2(arguments(self.half, damage.EPOCHS), patch)
        self.maps = map_files.write(synthetic.generate(MAP_SIZE, 2, 0), self.maps)
        self.circuit = em.Circuit(logic.exactly(2, logic.symbols(5, 2) == 1))
        (self.folder / "program").mkdir()
        self.program = Program(self.folder / "program")

    def attempt(self, name: str, index: int, call: Callable[[np.random.Generator], Any]) -> Any:
        """Make one call with a seed of its own."""
        try:
            result = call(np.random.default_rng([self.seed, index]))
        except Exception as error:
            self.counts[f"{name}: lost"] += 1
            if len(self.losses) < MOST_LOSSES:
                self.losses.append(f"{name} {self.seed} {index}: {type(error).__name__}: {str(error)[:300]}")
                print(self.losses[-1], flush=True)
            return None
        self.counts[name] += 1
        return result

    def calls(self, valid: int, wrong: int, first: int = 0) -> None:
        """Make valid and wrong calls."""
        for index in range(first, first + valid):
            self.attempt("valid calls", index, valid_call)
        for index in range(first, first + wrong):
            if self.attempt("wrong calls", index, wrong_call):
                self.counts["wrong calls: refused"] += 1

    def threads(self, calls: int, first: int = 0) -> None:
        """Make valid calls in four threads at once."""
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(lambda index: self.attempt("calls in threads", index, valid_call), range(first, first + calls))
            )

    def processes(self, method: str, calls: int, first: int = 0) -> None:
        """Make valid calls in a process that is forked or spawned."""
        name = f"calls in a {method} process"
        try:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                self.losses += pool.submit(calls_of_process, name, self.seed, first, calls).result(600)
        except Exception as error:
            self.losses.append(f"{name} {self.seed} {first}: {type(error).__name__}: {error}")
        self.counts[name] += calls

    def kills(self, runs: int, first: int = 0) -> None:
        """Kill runs."""
        cut = self.folder / "cut"
        for index in range(first, first + runs):
            faults = self.attempt("killed runs", index, partial(damage.kill_and_resume, self.whole, cut))
            self.counts["kills and full disks"] += faults or 0

    def damages(self, n_files: int, first: int = 0) -> None:
        """Damage files of runs, maps, circuits and kernels, in turn."""
        kinds: dict[str, Callable[[np.random.Generator], bool]] = {
            "runs": lambda random: damage.damage_run(self.half, self.whole, self.folder / "damaged", random),
            "maps": lambda random: damage.damage_maps(self.maps, self.folder / "damaged_maps", MAP_SIZE, random),
            "circuits": lambda random: damage.damage_circuit(self.circuit, self.folder, random),
            "kernels": lambda random: damage.damage_kernel_cache(self.program, random),
        }
        for index in range(first, first + n_files):
            kind = list(kinds)[index % len(kinds)]
            noticed = self.attempt(f"damaged files of {kind}", index, kinds[kind])
            self.counts[f"damaged files of {kind}: refused"] += bool(noticed)

    def report(self, minutes: float) -> dict[str, Any]:
        """Return seed, counts, losses, the peak of memory and what was open at the end."""
        return {
            "device": "cpu",
            "seed": self.seed,
            "minutes": round(minutes, 1),
            "counts": dict(sorted(self.counts.items())),
            "losses": self.losses,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "open_files": len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None,
            "versions": {"emnesy_gpu": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }


def calls_of_process(name: str, seed: int, first: int, calls: int) -> list[str]:
    """Make valid calls in a process of their own; returns what was lost."""
    torch.set_num_threads(1)
    run = Soak(seed, Path())
    for index in range(first, first + calls):
        run.attempt(name, index, valid_call)
    return run.losses


def soak(seed: int, minutes: float, folder: Path) -> dict[str, Any]:
    """Take turns until the time is over."""
    torch.set_num_threads(1)
    began, run, turn = time.monotonic(), Soak(seed, folder), 0
    run.prepare()
    while time.monotonic() - began < 60 * minutes:
        run.calls(2000, 1000, 2000 * turn)
        run.threads(100, 100 * turn)
        run.processes("fork", 100, 100 * turn)
        if turn % SPAWN_EVERY == 0:
            run.processes("spawn", 100, 100 * turn)
        run.kills(2, 2 * turn)
        run.damages(8, 8 * turn)
        turn += 1
        print(f"{(time.monotonic() - began) / 60:.1f} min", dict(run.counts), flush=True)
    return run.report((time.monotonic() - began) / 60)


def command() -> int:
    """Run the soak of the command line; returns 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = soak(options.seed, options.minutes, Path(folder))
    text = json.dumps(report, indent=2)
    print(text)
    if options.report is not None:
        options.report.write_text(text + "\n")
    return 1 if report["losses"] else 0


if __name__ == "__main__":
    raise SystemExit(command())
