"""One experiment in a process of its own: ``python -m emnesy_gpu.reproduce.worker JOB RESULT``, both JSON files.

A job has the ``experiment``, the ``folder`` of the run, the ``arguments`` of the train command, ``device`` and
``threads``. The result is the list of records. A run that was killed goes on from the checkpoint in its folder. A
worker ends when the pipe that is its standard input does: when the process that started it has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks import measure, suite
from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.reproduce.protocol import Experiment
from emnesy_gpu.tasks.core.options import open_run
from emnesy_gpu.tasks.core.runner import Runner
from emnesy_gpu.tasks.core.training import EMTraining
from emnesy_gpu.tasks.files.errors import DivergedError
from emnesy_gpu.tasks.files.run_directory import holds_run, replace_file
from emnesy_gpu.tasks.registry import TASKS
from emnesy_gpu.tasks.task import EStepBenchmark

STANDARD_INPUT = 0

ORPHAN_SECONDS = 30.0
"""Seconds for a worker to save its state and to end after its parent; the next one waits as long."""

E_STEP_SECONDS = 0.3
"""Seconds to spend on each measurement of an E-step."""

OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory")
"""Words by which errors of torch and of the system say that memory ran out."""


def measure_e_steps(experiment: Experiment, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure time and peak memory of one E-step by every method, after a check against the reference."""
    benchmark = TASKS[experiment.task].protocol.e_step
    if benchmark is None:
        raise ValueError(f"task {experiment.task} has no measurement of E-steps")
    torch.set_num_threads(job["threads"])
    found = suite.run(benchmark.suite(), [experiment.size], [experiment.batch or 1], job["device"], E_STEP_SECONDS)
    facts, names = measure.machine(torch.device(job["device"])), benchmarked_methods(benchmark)
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


def benchmarked_methods(benchmark: EStepBenchmark) -> dict[str, str]:
    """Return name in the benchmark -> key of the method; methods without a key play no part."""
    keys = {method.benchmark: key for key, method in METHODS.items() if method.benchmark is not None}
    return {**keys, "fused": benchmark.fused}


def train(experiment: Experiment, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Train, and measure time and memory."""
    runner, headline = open_runner(job), TASKS[experiment.task].headline
    runner.patience = 2 * ORPHAN_SECONDS
    training = runner.training
    _e_step(training)()  # loads its kernels, which are no part of the memory that training takes
    if runner.run() != 0:
        raise KeyboardInterrupt
    assert runner.directory is not None
    summary, history = json.loads(runner.directory.summary.read_text()), training.history
    seconds = {part: 60 * summary[f"minutes_{part}"] / len(history) for part in "em"}
    record = {
        "status": "done",
        "figures": {"accuracy": summary[headline], **_figures(summary, experiment.task)},
        "epochs": len(history),
        "epochs_planned": training.settings.epochs,
        "minutes": summary["minutes"],
        "cpu_minutes": summary["cpu_minutes"],
        "seconds_per_epoch": sum(seconds.values()),
        "seconds_e_per_epoch": seconds["e"],
        "seconds_m_per_epoch": seconds["m"],
        "peak_e_step_bytes": measure.peak_bytes(
            _e_step(training), training.device, METHODS[experiment.method].is_plain_torch
        ),
        "peak_process_bytes": runner.peak_bytes,
        "history": curve(history, headline),
        "machine": measure.machine(training.device),
    }
    return [record]


def open_runner(job: dict[str, Any]) -> Runner:
    """Open the run in the folder of the job where there is one, else a new one there."""
    name, *arguments = job["arguments"]
    task = TASKS[name]
    options = task.command.make_context(name, [*arguments, "--out", job["folder"]]).params
    if holds_run(Path(job["folder"])):
        options |= {"resume": Path(job["folder"])}
    return open_run(options, task.runs())


def _e_step(training: EMTraining) -> Callable[[], em.Posterior]:
    """Return the E-step of one batch, as in training; leaves the random state of the run as it was."""
    state = training.generator.get_state()
    inputs, label = training.rows(torch.arange(min(training.settings.batch, training.n_rows)))
    with torch.no_grad():
        logits = training.averaged_model.eval()(inputs)
    training.generator.set_state(state)
    return lambda: em.posterior(training.problem, logits, label, training.trainer.engine)


def _figures(summary: dict[str, Any], task: str) -> dict[str, Any]:
    """Return what a reader of the tables wants of a summary: shares, evidence and what the data are."""
    kept = ("accuracy", "evidence", "test_", *TASKS[task].recorded)
    return {name: value for name, value in summary.items() if any(part in name for part in kept)}


def curve(history: list[dict[str, Any]], headline: str) -> list[dict[str, Any]]:
    """Return the epochs that were evaluated, with the CPU minutes up to each."""
    points, minutes = [], 0.0
    for record in history:
        minutes += record["cpu_seconds"] / 60
        if headline in record:
            kept = {name: record[name] for name in ("epoch", "loss", "log_evidence")}
            points.append({**kept, "cpu_minutes": minutes, "accuracy": record[headline]})
    return points


def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of an experiment; a failure is a record too."""
    experiment = Experiment(**job["experiment"])
    try:
        return measure_e_steps(experiment, job) if experiment.kind == "e_step" else train(experiment, job)
    except DivergedError as error:
        return [{"status": "diverged", "error": str(error)}]
    except (RuntimeError, MemoryError, ArithmeticError, ValueError, OSError) as error:
        full = isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
        return [{"status": "out_of_memory" if full else "failed", "error": f"{type(error).__name__}: {error}"}]


def main(job: Path, result: Path) -> None:
    """Run the experiment of a job file, and write its records to the result file."""
    records = run(json.loads(job.read_text()))
    replace_file(result, lambda partial: partial.write_text(json.dumps(records)))


def end_with_parent() -> None:
    """Wait for the end of the pipe, then end as by SIGTERM, and at the latest after ``ORPHAN_SECONDS``."""
    with contextlib.suppress(OSError):
        while os.read(STANDARD_INPUT, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    if stat.S_ISFIFO(os.fstat(STANDARD_INPUT).st_mode):
        threading.Thread(target=end_with_parent, daemon=True).start()
    main(*map(Path, sys.argv[1:]))
