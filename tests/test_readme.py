"""The README keeps its promises: its code runs, and its table names files and operators that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from emnesy_gpu.ops import NAMES
from tests.readme_matrix import matrix

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_code_runs(capsys) -> None:
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in blocks(README):
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert float(re.search(r"tensor\((.*?)\)", printed)[1]) > 0.9
    assert float(re.search(r"differ by tensor\((.*?)\)", printed)[1]) < 0.1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_the_pages_runs(page: Path) -> None:
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in blocks(page.read_text()):
        exec(compile(block, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / link).is_file(), link


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
