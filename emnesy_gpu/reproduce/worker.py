"""One cell in a process of its own: ``python -m emnesy_gpu.reproduce.worker JOB RESULT``, both JSON files.

A job: ``cell``, ``folder`` of the run, ``arguments`` of the train command, ``device`` and ``threads``. The result: the
records of the cell. A run that was killed continues from the checkpoint in its folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks import measure, suite
from emnesy_gpu.reproduce.protocol import Cell
from emnesy_gpu.tasks.commands import run_of, train
from emnesy_gpu.tasks.core import plain_torch_engines
from emnesy_gpu.tasks.core.run_directory import RunDirectory, replace_file
from emnesy_gpu.tasks.core.runner import INTERRUPTED, Runner
from emnesy_gpu.tasks.core.training import DivergedError, EMTraining

HEADLINES = {"addition": "sum_accuracy", "sudoku": "board_accuracy", "warcraft": "cost_accuracy"}
"""The figure of a summary, and of the record of an epoch, that counts as the accuracy of a task."""

E_STEP_METHODS = {
    "addition": {"fused": "exact", "torch EM": "torch", "BP-std": "bp-std"},
    "sudoku": {"exact": "exact", "fused": "bp", "torch EM": "torch", "BP-std": "bp-std"},
}
"""Method of the benchmarks -> method here; the others play no part."""

E_STEP_SECONDS = 0.3
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory")


def measured_e_steps(cell: Cell, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Time and peak memory of one E-step by every method, in this process, checked against the reference first."""
    torch.set_num_threads(job["threads"])
    chosen: suite.Suite = import_module(f"emnesy_gpu.benchmarks.{cell.task}").SUITE
    found = suite.run(chosen, [cell.size], [cell.batch or 1], job["device"], E_STEP_SECONDS)
    facts, names = measure.machine(torch.device(job["device"])), E_STEP_METHODS[cell.task]
    return [
        {
            "status": "out_of_memory" if one.seconds is None else "done",
            "method": names[one.method],
            "seconds": one.seconds,
            "peak_bytes": one.peak,
            "deviation": one.error,
            "machine": facts,
        }
        for one in found
        if one.method in names
    ]


def trained(cell: Cell, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Train, and measure time and memory."""
    runner = _runner(job)
    training = runner.training
    _e_step(training)()  # loads its kernels, which are no part of the memory that training takes
    if runner.run() == INTERRUPTED:
        raise KeyboardInterrupt
    assert runner.directory is not None
    summary, history = json.loads(runner.directory.summary.read_text()), training.history
    seconds = {part: 60 * summary[f"minutes_{part}"] / len(history) for part in "em"}
    record = {
        "status": "done",
        "figures": {"accuracy": summary[HEADLINES[cell.task]], **_figures(summary)},
        "epochs": len(history),
        "epochs_planned": training.settings.epochs,
        "minutes": summary["minutes"],
        "cpu_minutes": summary["cpu_minutes"],
        "seconds_per_epoch": sum(seconds.values()),
        "seconds_e_per_epoch": seconds["e"],
        "seconds_m_per_epoch": seconds["m"],
        "peak_e_step_bytes": measure.peak_bytes(
            _e_step(training), training.device, cell.method in plain_torch_engines.NAMES
        ),
        "peak_process_bytes": runner.peak_bytes,
        "history": curve(history, HEADLINES[cell.task]),
        "machine": measure.machine(training.device),
    }
    return [record]


def _runner(job: dict[str, Any]) -> Runner:
    """The run in the folder of the cell where there is a checkpoint, else a new one there."""
    task, *arguments = job["arguments"]
    command = train.commands[task]
    options = command.make_context(task, [*arguments, "--out", job["folder"]]).params
    if RunDirectory(Path(job["folder"])).checkpoint.exists():
        options |= {"resume": Path(job["folder"])}
    return run_of(task, options)


def _e_step(training: EMTraining) -> Callable[[], em.Posterior]:
    """The E-step of one batch, as in training; leaves the random state of the run as it was."""
    state = training.generator.get_state()
    pixels, label = training.rows(torch.arange(min(training.settings.batch, training.n_rows)))
    with torch.no_grad():
        logits = training.averaged_model.eval()(pixels)
    training.generator.set_state(state)
    return lambda: em.posterior(training.problem, logits, label, training.trainer.engine)


def _figures(summary: dict[str, Any]) -> dict[str, Any]:
    """What a reader of the tables wants of a summary: shares, evidence and what the data are."""
    kept = ("accuracy", "auroc", "evidence", "within", "boards", "maps", "data", "test_", "merged", "starts")
    return {name: value for name, value in summary.items() if any(part in name for part in kept)}


def curve(history: list[dict[str, Any]], headline: str) -> list[dict[str, Any]]:
    """The epochs that were evaluated, with the CPU minutes up to each."""
    points, minutes = [], 0.0
    for record in history:
        minutes += record["cpu_seconds"] / 60
        if headline in record:
            kept = {name: record[name] for name in ("epoch", "loss", "log_evidence")}
            points.append({**kept, "cpu_minutes": minutes, "accuracy": record[headline]})
    return points


def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of a cell; a failure is a record too."""
    cell = Cell(**job["cell"])
    try:
        return measured_e_steps(cell, job) if cell.kind == "e_step" else trained(cell, job)
    except DivergedError as error:
        return [{"status": "diverged", "error": str(error)}]
    except (RuntimeError, MemoryError, ArithmeticError, ValueError, OSError) as error:
        full = isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
        return [{"status": "out_of_memory" if full else "failed", "error": f"{type(error).__name__}: {error}"}]


def main(job: Path, result: Path) -> None:
    records = run(json.loads(job.read_text()))
    replace_file(result, lambda partial: partial.write_text(json.dumps(records)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
