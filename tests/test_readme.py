"""The README keeps its promises: its code runs, and its table names files and operators that exist."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from emnesy_gpu.ops import NAMES
from tests.readme_matrix import matrix

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_code_runs(capsys) -> None:
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), namespace)
    accuracy = float(re.search(r"tensor\((.*?)\)", capsys.readouterr().out)[1])
    assert accuracy > 0.9


def rows_of_the_op_table() -> list[list[str]]:
    table = README[README.index("| op |") :].split("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`([^`]+)`", line) for line in table]


def test_op_table_is_complete_and_true() -> None:
    rows = rows_of_the_op_table()
    assert {row[0] for row in rows} == set(NAMES)
    for _op, *files in rows:
        assert len(files) == 5
        for file in files:
            assert (ROOT / file).is_file(), file


def test_every_kernel_stem_has_its_twin() -> None:
    stems = [{Path(file).stem for file in row[1:4]} for row in rows_of_the_op_table()]
    assert all(len(names) == 1 for names in stems)


def test_engine_matrix_is_what_the_problems_support() -> None:
    assert matrix() in README, "python -m tests.readme_matrix prints the table for the README"
