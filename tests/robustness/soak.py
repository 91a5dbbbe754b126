"""Many valid and wrong calls, kills and damaged files: ``python -m tests.robustness.soak --minutes 60``.

Prints the seed of everything, counts and losses, and writes them as JSON. A loss names the seed that repeats it.
Workers, forked once kernels are loaded, share the turns; no two turns have a seed in common.
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
from typing import Any, NamedTuple

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

SPAWN_EVERY = 10
"""Turns between processes that are spawned: their imports take longer than their calls."""


FIRST_OF_THE_PARENT = 1 << 40
"""The number of its first call, beyond those of all turns."""


class Material(NamedTuple):
    """Runs, maps and a circuit that are killed or damaged: made once, and copied before."""

    whole: Path
    half: Path
    maps: Path
    circuit: em.Circuit


class Soak:
    """Counts what was tried, and keeps what was lost. folder: for what it writes, of this process alone."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.counts: Counter[str] = Counter()
        self.losses: list[str] = []

    def prepare(self, material: Material | None = None) -> None:
        """Make what is damaged later, or take it from another process."""
        self.material = material or prepared(self.folder)
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
            faults = self.attempt("killed runs", index, partial(damage.kill_and_resume, self.material.whole, cut))
            self.counts.update(faults or {})

    def write_faults(self, runs: int, first: int = 0) -> None:
        """Fail one write call of runs."""
        folder = self.folder / "faulty"
        for index in range(first, first + runs):
            ended = self.attempt("write faults", index, partial(damage.fail_a_write, self.material.whole, folder))
            self.counts["write faults: ended a run"] += bool(ended)

    def damages(self, n_files: int, first: int = 0) -> None:
        """Damage files of runs, maps, circuits and kernels, in turn."""
        whole, half, maps, circuit = self.material
        kinds: dict[str, Callable[[np.random.Generator], bool]] = {
            "runs": lambda random: damage.damage_run(half, whole, self.folder / "damaged", random),
            "maps": lambda random: damage.damage_maps(maps, self.folder / "damaged_maps", MAP_SIZE, random),
            "circuits": lambda random: damage.damage_circuit(circuit, self.folder, random),
            "kernels": lambda random: damage.damage_kernel_cache(self.program, random),
        }
        for index in range(first, first + n_files):
            kind = list(kinds)[index % len(kinds)]
            noticed = self.attempt(f"damaged files of {kind}", index, kinds[kind])
            self.counts[f"damaged files of {kind}: refused"] += bool(noticed)

    def turn(self, turn: int) -> None:
        """Take one turn of all kinds, with seeds of its own."""
        self.calls(3200, 1600, 3200 * turn)
        self.threads(100, 100 * turn)
        self.processes("fork", 100, 100 * turn)
        if turn % SPAWN_EVERY == 0:
            self.processes("spawn", 100, 100 * turn)
        self.kills(4, 4 * turn)
        self.damages(5, 5 * turn)
        self.write_faults(1, turn)

    def findings(self) -> Findings:
        open_files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return Findings(self.counts, self.losses, peak, open_files)


class Limits(NamedTuple):
    """When to end: after so many minutes, or turns of all workers together."""

    minutes: float
    turns: int
    workers: int


class Findings(NamedTuple):
    """What a process has found, the peak of its memory in MiB, and the files that were open at its end."""

    counts: Counter[str]
    losses: list[str]
    peak_mib: int
    open_files: int


def prepared(folder: Path) -> Material:
    """Make a run, the same one interrupted, maps and a circuit; this loads the kernels of a run, too."""
    whole, half = folder / "whole", folder / "half"
    assert main(arguments(whole, damage.EPOCHS)) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_epoch_2(arguments(half, damage.EPOCHS), patch)
    maps = map_files.write(synthetic.generate(MAP_SIZE, 2, 0), folder / "maps")
    return Material(whole, half, maps, em.Circuit(logic.exactly(2, logic.symbols(5, 2) == 1)))


def calls_of_process(name: str, seed: int, first: int, calls: int) -> list[str]:
    """Make valid calls in a process of their own; returns what was lost."""
    torch.set_num_threads(1)
    run = Soak(seed, Path())
    for index in range(first, first + calls):
        run.attempt(name, index, valid_call)
    return run.losses


def turns(seed: int, limits: Limits, folder: Path, material: Material, next_turn: Any) -> Findings:
    """Take turns, shared with other workers, up to the limits; next_turn: a counter that they share."""
    torch.set_num_threads(1)
    run = Soak(seed, Path(tempfile.mkdtemp(dir=folder)))
    run.prepare(material)
    deadline = time.time() + 60 * limits.minutes
    while time.time() < deadline:
        with next_turn.get_lock():
            turn, next_turn.value = next_turn.value, next_turn.value + 1
        if turn >= limits.turns:
            break
        run.turn(turn)
        print(f"turn {turn}, {(deadline - time.time()) / 60:.1f} min left", dict(run.counts), flush=True)
    return run.findings()


def soak(seed: int, limits: Limits, folder: Path) -> dict[str, Any]:
    """Take turns until the time is over; return seed, counts, losses, and what memory and files were in use."""
    torch.set_num_threads(1)
    began, first = time.time(), Soak(seed, folder)
    material = prepared(folder)
    first.calls(300, 300, FIRST_OF_THE_PARENT)  # so that every worker inherits the kernels
    context = multiprocessing.get_context("fork")
    _shared.update(arguments=(seed, limits, folder, material, context.Value("q", 0)))
    with ProcessPoolExecutor(limits.workers, mp_context=context) as pool:
        futures = [pool.submit(_turns) for _ in range(limits.workers)]
        found = [first.findings(), *(future.result() for future in futures)]
    counts = sum((part.counts for part in found), Counter())
    return {
        "device": "cpu",
        "seed": seed,
        "workers": limits.workers,
        "minutes": round((time.time() - began) / 60, 1),
        "counts": dict(sorted(counts.items())),
        "losses": [loss for part in found for loss in part.losses],
        "peak_mib": max(part.peak_mib for part in found),
        "open_files": max(part.open_files for part in found),
        "versions": {"emnesy_gpu": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


_shared: dict[str, Any] = {}
"""What workers inherit: a counter cannot be sent to them."""


def _turns() -> Findings:
    return turns(*_shared["arguments"])


def command() -> int:
    """Run the soak of the command line; returns 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--turns", type=int, default=1 << 30)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = soak(options.seed, Limits(options.minutes, options.turns, options.workers), Path(folder))
    text = json.dumps(report, indent=2)
    print(text)
    if options.report is not None:
        options.report.write_text(text + "\n")
    return 1 if report["losses"] else 0


if __name__ == "__main__":
    raise SystemExit(command())
