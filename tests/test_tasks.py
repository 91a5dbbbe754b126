"""The tables of tasks and methods, and what the shared layers may know of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import emnesy_gpu
from emnesy_gpu.cli import main
from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.reproduce.worker import benchmarked_methods
from emnesy_gpu.tasks.commands import data, train
from emnesy_gpu.tasks.core.engines import ENGINE_NAMES
from emnesy_gpu.tasks.core.loss_engines import LOSSES
from emnesy_gpu.tasks.registry import TASKS
from emnesy_gpu.tasks.warcraft.path_losses import PATH_LOSSES

PACKAGE = Path(emnesy_gpu.__file__).parent
GROUPS = [[], ["train"], ["data"], ["bench"]]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_its_commands_and_runs(name):
    task = TASKS[name]
    assert train.commands[name] is task.command
    assert set(task.data_commands) <= set(data.commands.values())
    runs = task.runs()
    assert callable(runs.start)
    assert callable(runs.resume)


@pytest.mark.parametrize("name", TASKS)
def test_the_protocol_of_a_task_names_known_methods_and_estimates_their_minutes(name):
    plan = TASKS[name].protocol
    for size, methods in plan.methods.items():
        assert set(methods) <= set(METHODS)
        assert plan.minutes[size, True] > 0
        assert TASKS[name].default_method(size) in methods
    assert all(plan.minutes[size, False] > 0 for size in plan.unaugmented)
    assert {*plan.epochs, *plan.measured, *plan.quick.methods} <= set(METHODS)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.protocol.e_step])
def test_the_names_of_a_benchmark_stand_for_methods(name):
    benchmark = TASKS[name].protocol.e_step
    keys = benchmarked_methods(benchmark)
    assert {"bp-std", "torch", benchmark.fused} <= {keys[name] for name in benchmark.suite().methods if name in keys}


def test_the_engines_of_methods_are_those_of_the_commands():
    assert {method.engine for method in METHODS.values() if not method.rival} <= {None, *ENGINE_NAMES}
    assert {method.engine for method in METHODS.values() if method.rival} == {*LOSSES, *PATH_LOSSES}


@pytest.mark.parametrize("command", GROUPS)
def test_the_help_shows_whole_summaries(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command, "--help"]) == 0
    lines = capsys.readouterr().out.partition("Commands:")[2].strip().splitlines()
    assert lines
    for line in lines:
        assert line.endswith(".")
        assert not line.endswith("...")
        assert len(line) <= 80


def imported(path: Path) -> set[str]:
    """The modules that a file names in its imports, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def layers(name: str) -> set[str]:
    """The parts of ``emnesy_gpu.tasks`` that the files of one part import."""
    modules = set().union(*(imported(path) for path in (PACKAGE / "tasks" / name).glob("*.py")))
    return {module.split(".")[2] for module in modules if module.startswith("emnesy_gpu.tasks.")}


def test_shared_parts_import_no_task():
    assert layers("files") == {"files"}
    assert layers("core") == {"core", "files"}
    assert layers("mnist") == {"core", "files", "mnist"}


@pytest.mark.parametrize("name", TASKS)
def test_tasks_import_no_other_task(name):
    assert layers(name) <= {"core", "files", "mnist", "task", name}


@pytest.mark.parametrize("path", sorted((PACKAGE / "reproduce").glob("*.py")), ids=lambda path: path.name)
def test_the_reproduction_names_no_task(path):
    words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert words.isdisjoint(TASKS)
    assert not any(module.startswith(f"emnesy_gpu.tasks.{name}") for module in imported(path) for name in TASKS)
