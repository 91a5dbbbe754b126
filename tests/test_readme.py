"""The README and the other pages keep their promises: code runs, links and tables are true, cells are short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from emnesy_gpu.ops import NAMES
from tests import op_table, rule_table
from tests.readme_matrix import matrix

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "api")
PAGES = [
    *(README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"),
    *DOCS,
    *sorted((ROOT / "profiling").glob("*.md")),
    *sorted((ROOT / "profiling" / "experiments").glob("*.md")),
]
LINES_OF_THE_FRONT_PAGE = 110
WIDEST_CELL = 60


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_code(page: Path) -> None:
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, name_of(page), "exec"), namespace)


def test_code_of_the_readme_learns_the_digits(capsys) -> None:
    run_code(README)
    assert float(re.search(r"tensor\((.*?)\)", capsys.readouterr().out)[1]) > 0.9


def test_problem_of_the_extension_page_agrees_with_samples(capsys) -> None:
    run_code(ROOT / "docs" / "extend.md")
    assert float(re.search(r"differ by tensor\((.*?)\)", capsys.readouterr().out)[1]) < 0.1


def test_rules_of_their_page_have_these_states_and_edges() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("interegular")
    rules = rule_table.rules_of_the_page()
    promised = {int(row[0]): (int(row[4]), int(row[5])) for row in rule_table.ROW.findall(rule_table.PAGE.read_text())}
    assert promised == {number: (rule.n_states, rule.n_edges) for number, rule in rules.items()}
    assert len(rules) == 10


PAGES_OF_THEIR_OWN = {
    ROOT / "docs" / "circuits.md",
    ROOT / "docs" / "extend.md",
    *(ROOT / "docs" / "rules").glob("*.md"),
}
"""The first has its tests in test_circuit_uses.py, and rules are made above."""


@pytest.mark.parametrize("page", [page for page in DOCS if page not in PAGES_OF_THEIR_OWN], ids=name_of)
def test_code_of_the_pages_runs(page: Path) -> None:
    run_code(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_anchors_lead_to_headings(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text()):
        target = page.parent / link if link else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_table_cells_are_short(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    for cell in (cell.strip() for row in rows for cell in row.strip("|").split("|")):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell)  # a reader sees the words of a link, not its address
        assert len(text) <= WIDEST_CELL, cell


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_line_is_a_comment_of_the_site(page: Path) -> None:
    """A line that starts with a percent sign is left out of the site."""
    assert re.findall(r"^%.*", page.read_text(), re.MULTILINE) == []


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= LINES_OF_THE_FRONT_PAGE


def test_engine_matrix_is_what_the_problems_support() -> None:
    assert matrix() in README.read_text(), "python -m tests.readme_matrix prints the table for the README"


def test_layout_page_has_exactly_the_op_table() -> None:
    page = (ROOT / "docs" / "layout.md").read_text()
    table = page[page.index("| stem |") :].split("\n\n")[0]
    assert table == op_table.table(), "python -m tests.op_table prints the table for docs/layout.md"


def test_op_table_is_complete_and_true() -> None:
    rows = op_table.rows()
    assert {row[0] for row in rows} == set(NAMES)
    for _op, *files in rows:
        assert len(files) == 6
        for file in files:
            assert (ROOT / file).exists(), file


def test_every_kernel_stem_has_its_twin() -> None:
    for _op, *files in op_table.rows():
        assert len({Path(file).stem for file in files[:4]}) == 1


def test_every_kernel_is_in_the_op_table_or_has_no_operator() -> None:
    assert op_table.kernel_stems() == {op_table.stem_of(name) for name in NAMES} | op_table.WITHOUT_OPERATOR


@pytest.mark.parametrize("stem", op_table.EXERCISED)
def test_the_test_of_a_stem_names_it(stem: str) -> None:
    test, _benchmark = op_table.EXERCISED[stem]
    assert stem in (ROOT / "tests" / f"{test}.py").read_text()
