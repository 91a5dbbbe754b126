"""The site has every public name and every section, and shows what the code of its pages prints and draws."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

import emnesy_gpu as em
from docs import executed_pages

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = DOCS / "api"
TEXT = "\n".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))
MODULES = set(re.findall(r"automodule:: (\S+)", TEXT))


def names_of_modules() -> set[str]:
    return {name for module in MODULES for name in getattr(vars(em)[module.rpartition(".")[2]], "__all__", ())}


def test_every_public_name_is_in_the_reference() -> None:
    named = set(re.findall(r"auto\w+:: emnesy_gpu\.(\w+)$", TEXT, re.MULTILINE)) | names_of_modules()
    public = {name for name in em.__all__ if not isinstance(vars(em)[name], ModuleType)} - {"__version__"}
    assert public <= named


def test_every_public_module_is_in_the_reference() -> None:
    public = {vars(em)[name] for name in em.__all__}
    assert {value.__name__ for value in public if isinstance(value, ModuleType)} == MODULES


def test_every_example_is_listed() -> None:
    examples = REFERENCE.parent.parent / "examples"
    listed = set(re.findall(r"\]\((\w+\.py)\)", (examples / "README.md").read_text()))
    assert listed == {path.name for path in examples.glob("*.py")}


SECTIONS = {
    "start": ["start", "../examples/quickstart", "gallery", "data", "checkpoints"],
    "ten rules": ["your_own_rule", *(f"rules/{page.stem}" for page in (DOCS / "rules").glob("*.md"))],
    "benchmarks": ["benchmarks/addition", "benchmarks/sudoku", "benchmarks/paths"],
    "understanding": ["engines", "em_variants", "scaling", "gpus", "limits", "glossary"],
    "reference": ["api/index"],
    "measuring": ["measuring", "../profiling/RESULTS", "../profiling/README"],
    "other systems": ["coming_from", "other_engines"],
    "extending": ["extend", "layout", "../CONTRIBUTING"],
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_is_in_the_index(section: str) -> None:
    entries = set(re.findall(r"^(?:[\w ]+ <)?([\w./]+)>?$", (DOCS / "index.md").read_text(), re.MULTILINE))
    assert set(SECTIONS[section]) <= entries


def test_there_are_ten_rules_in_the_index() -> None:
    assert len(SECTIONS["ten rules"]) == 11


PAGE = """Text.

```python
x = 2
print(x)
```

```python
print(x + 1)
figure
```

```console
$ print(4)
```
"""


class Figure:
    """What the page takes for a figure of matplotlib."""

    axes = ()

    def savefig(self) -> None: ...

    def get_suptitle(self) -> str:
        return "Two\nlines"


def test_a_page_shows_what_its_code_prints_and_draws() -> None:
    text = executed_pages.executed(PAGE, "page", lambda shown: "a.png", figure=Figure())
    assert re.findall(r"```text\n(.*?)\n```", text) == ["2", "3"]
    assert "![Two, lines](a.png)" in text
    assert "print(4)" in text


def test_code_of_a_page_that_fails_ends_the_build() -> None:
    with pytest.raises(NameError, match="figure"):
        executed_pages.executed(PAGE, "page", lambda figure: "a.png")


@pytest.fixture(scope="module")
def conf() -> ModuleType:
    """The settings of the site, where what they need is installed."""
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    return importlib.import_module("docs.conf")


DOCSTRING = """Logits [batch, *shape].

    w = (s / C) ** sharpness, see ``em.ABC``

More [*shape].

>>> [*"ab"]
['a', 'b']

:param z: float [batch,
    *shape]"""


def test_equations_and_examples_stand_as_they_are(conf: ModuleType) -> None:
    lines = DOCSTRING.splitlines()
    conf.escape(None, "function", "f", None, None, lines)
    shown = (
        DOCSTRING.replace("*shape", r"\*shape")
        .replace("``em.ABC``", "em.ABC")
        .replace("\n    w", "\n.. code-block:: none\n\n    w")
    )
    assert lines == shown.splitlines()


def test_attributes_with_one_text_have_a_field_each(conf: ModuleType) -> None:
    lines = [":ivar width, height: of the grid;", "    in cells", ":ivar z: one of its cells", "", "text"]
    conf.part_attributes(None, "class", "Grid", None, None, lines)
    shared = [":ivar {}: of the grid;", "    in cells"]
    assert lines == [
        *(line.format(name) for name in ("width", "height") for line in shared),
        ":ivar z: one of its cells",
        "",
        "text",
    ]


def test_properties_do_not_show_the_text_of_a_type() -> None:
    """One without a docstring shows that of what it overrides, which is the text of bool where that is False."""
    public = [value for value in vars(em).values() if isinstance(value, type)]
    for owner in {base for one in public for base in one.__mro__ if base.__module__.startswith("emnesy_gpu")}:
        for name, found in vars(owner).items():
            if isinstance(found, property) and not found.__doc__:
                assert isinstance(getattr(super(owner, owner), name, found), property), f"{owner.__name__}.{name}"


def test_problems_show_their_own_arguments(conf: ModuleType) -> None:
    shown = conf.show_arguments(None, "class", "emnesy_gpu.Addition", em.Addition, None, "(*arguments)", None)
    assert shown is not None
    assert shown[0].startswith("(n_digits: int, base: int = 10")
    for other in (em.Posterior, em.InferenceWarning, em.Exact):
        assert conf.show_arguments(None, "class", other.__name__, other, None, "()", None) is None


def test_columns_of_numbers_are_marked(conf: ModuleType) -> None:
    nodes = pytest.importorskip("docutils.nodes")
    table = [["task", "share %", "more"], ["sums", "96.2 ± 0.2", "x 40"], ["4 digits", "-", "4 to 5"]]
    rows = [nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in row)) for row in table]
    group = nodes.tgroup("", nodes.thead("", rows[0]), nodes.tbody("", *rows[1:]))
    conf.align_numbers(None, nodes.table("", group))
    assert [[entry["classes"] for entry in row] for row in rows] == [[[], ["number"], []]] * 3
