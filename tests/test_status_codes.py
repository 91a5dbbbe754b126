"""The four status codes are named in several places, and written by kernels: all of them mean the same."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import emnesy_gpu.kernels.cpu
import emnesy_gpu.reference
from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.kernels import status
from tests.cases import Case

CODES = {"POSSIBLE": 0, "IMPOSSIBLE": 1, "INVALID_LOGITS": 2, "INVALID_LABEL": 3}


def modules(package: ModuleType) -> list[ModuleType]:
    names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [importlib.import_module(name) for name in names]


def test_every_name_has_the_same_code() -> None:
    assert {name: getattr(status, name) for name in CODES} == CODES
    spaces = [vars(module) for module in (checks, *modules(emnesy_gpu.reference), *modules(emnesy_gpu.kernels.cpu))]
    found = {(name, space[name]) for space in spaces for name in CODES if name in space}
    assert found == set(CODES.items())


def defined_by_number(file: Path) -> Iterator[str]:
    """Names of codes that a file gives a value in which an integer is written out."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Assign):
            numbers = [part for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
            if any(isinstance(number.value, int) for number in numbers):
                names = [part for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
                yield from (name.id for name in names if name.id in CODES)


def test_kernels_define_every_code_once() -> None:
    assert status.__file__ is not None
    files = Path(status.__file__).parent.rglob("*.py")
    found = {file.name: sorted(names) for file in files if (names := list(defined_by_number(file)))}
    assert found == {"status.py": sorted(CODES)}


def test_a_second_definition_is_found(tmp_path: Path) -> None:
    file = tmp_path / "copy.py"
    file.write_text("POSSIBLE, IMPOSSIBLE = range(2)\nINVALID_LABEL: int\nINVALID_LOGITS = other.INVALID_LOGITS\n")
    assert list(defined_by_number(file)) == ["POSSIBLE", "IMPOSSIBLE"]


def status_of(function: str, logits: torch.Tensor, label: torch.Tensor, *more: int) -> torch.Tensor:
    return getattr(kernels_for("carry_chain", logits.device), function)(logits, label, *more)[-1]


@pytest.mark.parametrize(("function", "more"), [("posterior", ()), ("map_assignment", ()), ("sample", (1, 0, 0))])
@pytest.mark.parametrize("n_addends", [2, 3])
def test_every_kernel_writes_the_same_codes(backend, function: str, more: tuple[int, ...], n_addends: int) -> None:
    logits, label = Case(1, base=3, n_addends=n_addends, batch=4).draw()
    label[1] = torch.tensor([2, 2])
    logits[1, :, :, 1:] = float("-inf")
    logits[2, 0, 0] = float("nan")
    logits[3, 0, 0] = float("inf")
    label[3, 1] = 3
    assert backend.run(status_of, function, logits, label, *more).tolist() == [0, 1, 2, 3]
