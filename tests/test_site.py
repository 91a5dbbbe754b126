"""The reference of the site has every public name; ``make docs`` checks the rest."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import emnesy_gpu as em

REFERENCE = Path(__file__).parent.parent / "docs" / "api"
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
