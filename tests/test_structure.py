"""The rooms of the house: imports point downwards, and nothing imports itself by a detour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"emnesy_gpu": "emnesy_gpu", "kernels": "emnesy_gpu.kernels", "profiling": "profiling"}

LAYERS = (
    ("emnesy_gpu.__main__",),
    ("emnesy_gpu.cli",),
    ("emnesy_gpu.reproduce", "emnesy_gpu.gallery", "emnesy_gpu.skeletons"),
    ("emnesy_gpu.tasks",),
    ("emnesy_gpu.benchmarks",),
    ("emnesy_gpu.doctor",),
    ("emnesy_gpu",),
    ("emnesy_gpu.em",),
    ("emnesy_gpu.em_options", "emnesy_gpu.explanation"),
    ("emnesy_gpu.e_step", "emnesy_gpu.m_step", "emnesy_gpu.baselines"),
    ("emnesy_gpu.engines", "emnesy_gpu.rules", "emnesy_gpu.factors"),
    ("emnesy_gpu.problems",),
    ("emnesy_gpu.ops",),
    ("emnesy_gpu.inference",),
    ("emnesy_gpu.reference",),
    ("emnesy_gpu.logic",),
    ("emnesy_gpu.circuits", "emnesy_gpu.factor_graphs"),
    ("emnesy_gpu.automata",),
    ("emnesy_gpu.labels", "emnesy_gpu.layered_drawing"),
    ("emnesy_gpu.backends", "emnesy_gpu.checks"),
    (
        "emnesy_gpu.dtensors",
        "emnesy_gpu.errors",
        "emnesy_gpu.folders",
        "emnesy_gpu.memory",
        "emnesy_gpu.palette",
        "emnesy_gpu.philox",
        "emnesy_gpu.reduction",
        "emnesy_gpu.transforms",
        "emnesy_gpu.version",
    ),
    ("emnesy_gpu.kernels.gpu",),
    ("emnesy_gpu.kernels.cpu", "emnesy_gpu.kernels.cuda"),
    ("emnesy_gpu.kernels",),
)
"""Rooms from top to bottom: a module imports from its own room and from lower ones alone."""

TASK_LAYERS = (
    ("emnesy_gpu.tasks.commands", "emnesy_gpu.tasks.saved_run_commands"),
    ("emnesy_gpu.tasks.saved_runs",),
    ("emnesy_gpu.tasks.registry",),
    (
        "emnesy_gpu.tasks.addition",
        "emnesy_gpu.tasks.formula",
        "emnesy_gpu.tasks.puzzle",
        "emnesy_gpu.tasks.rules",
        "emnesy_gpu.tasks.sudoku",
        "emnesy_gpu.tasks.warcraft",
    ),
    ("emnesy_gpu.tasks.mnist", "emnesy_gpu.tasks.data_sets"),
    ("emnesy_gpu.tasks.task",),
    ("emnesy_gpu.tasks.core",),
    ("emnesy_gpu.tasks.files",),
)
"""The same inside the room of the tasks: ``core`` and ``files`` know no task, and tasks do not know each other."""


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


MODULES = modules()


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports(module: str, types: bool = True) -> Iterator[str]:
    """The modules that a module imports anywhere in its code, also inside functions; types: for annotations too."""
    tree = parsed(module)
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == TYPES]
    skipped = set() if types else {inner for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                continue
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


TYPES = "TYPE_CHECKING"
ARROWS = {module: {target for target in imports(module) if target in MODULES} for module in MODULES}


def place(module: str, layers: tuple[tuple[str, ...], ...]) -> tuple[int, str] | None:
    """The layer and the room of a module: the room with the longest name that is a prefix of its own."""
    rooms = [
        (len(room), level, room)
        for level, names in enumerate(layers)
        for room in names
        if module == room or module.startswith(f"{room}.")
    ]
    return max(rooms)[1:] if rooms else None


def upward(layers: tuple[tuple[str, ...], ...]) -> list[str]:
    found = []
    for module, targets in ARROWS.items():
        own = place(module, layers)
        for target in targets:
            other = place(target, layers)
            if own and other and own[1] != other[1] and other[0] <= own[0]:
                found.append(f"{module} -> {target}")
    return sorted(found)


@pytest.mark.parametrize("layers", [LAYERS, TASK_LAYERS], ids=["package", "tasks"])
def test_imports_point_downwards(layers: tuple[tuple[str, ...], ...]) -> None:
    assert upward(layers) == []


def test_every_module_of_the_package_has_a_layer_of_its_own() -> None:
    """A new file at the top level is given a place here, on purpose."""
    top = {module for module in MODULES if module.count(".") == 1 and module.startswith("emnesy_gpu.")}
    assert top <= {room for names in LAYERS for room in names}


def test_the_package_knows_neither_its_tests_nor_its_profiling() -> None:
    outside = ("tests", "profiling")
    targets = {(module, target) for module in MODULES for target in imports(module)}
    package = {pair for pair in targets if pair[0].startswith("emnesy_gpu") and pair[1].split(".")[0] in outside}
    profiling = {pair for pair in targets if pair[0].startswith("profiling") and pair[1].split(".")[0] == "tests"}
    assert package | profiling == set()


def test_the_library_logs_and_only_commands_print() -> None:
    library = next(level for level, names in enumerate(LAYERS) if "emnesy_gpu" in names)
    modules = [module for module in MODULES if (room := place(module, LAYERS)) and room[0] >= library]
    assert "emnesy_gpu.em" in modules
    printing = [
        module
        for module in modules
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert printing == []


def test_no_module_imports_itself_by_a_detour() -> None:
    arrows = {module: set(imports(module, types=False)) & MODULES.keys() for module in MODULES}
    assert {module for module in MODULES if module in reachable(module, arrows)} == set()


def reachable(module: str, arrows: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(arrows[module])
    while waiting:
        target = waiting.pop()
        if target not in found:
            found.add(target)
            waiting += arrows[target]
    return found
