"""Runs that were saved: which task they are of, their figures again, and what their net reads in other images."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from emnesy_gpu.tasks.core.options import is_folder
from emnesy_gpu.tasks.core.runner import Runner
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.registry import TASKS
from emnesy_gpu.tasks.task import Task


def task_of(path: Path) -> Task:
    """Return the task of the run in a folder, by the names of its settings; DataError where there is none."""
    config = path / "config.json"
    try:
        names = set(dict(json.loads(config.read_text())["settings"]))
    except FileNotFoundError as error:
        raise DataError(f"{path} holds no run: {config} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{config} is not the config of a run: {error}") from error
    found = [task for task in TASKS.values() if names == {field.name for field in fields(task.settings)}]
    if len(found) != 1:
        raise DataError(f"{config} has the settings of no task of this version: {', '.join(sorted(names))}")
    return found[0]


def open_run(path: Path, **folders: Path | None) -> Runner:
    """Return the run in a folder with the weights of its checkpoint; nothing in the folder is changed.

    folders: ``data_dir`` and the like, as for ``emnesy train``; those that the task does not take are left out. Raises
    DataError for a folder without a checkpoint, and for data that are missing.
    """
    task = task_of(path)
    taken = {option.name for option in task.command.params if option.name and is_folder(option.name)}
    runner = task.runs().resume(path, **{name: folder for name, folder in folders.items() if name in taken})
    if runner.directory is None or not runner.directory.has_checkpoint():
        raise DataError(f"{path} has no checkpoint yet: the run ended before its first epoch")
    runner.load(runner.directory)
    return runner


def figures(runner: Runner) -> dict[str, Any]:
    """Return the summary of a run, with the figures of its net on its test data computed anew.

    Raises DataError where no epoch is finished.
    """
    training = runner.training
    if not training.history:
        raise DataError("no epoch of the run is finished: there are no figures yet")
    # The last epoch is judged again, as the last of the run is: a task may judge others less thoroughly.
    *before, last = training.history
    training.settings = replace(training.settings, epochs=len(training.history))
    training.history, training.progress = before, None
    again = training.evaluate()
    training.history = [*before, {**last, **again}]
    return runner.summarise()
