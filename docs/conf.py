"""Settings of Sphinx for ``make docs``. The source is the whole repository, so that links between pages hold."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import FunctionType

from docutils import nodes
from sphinx.util import inspect

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from executed_pages import execute  # noqa: E402
from notebook_pages import NotebookParser  # noqa: E402

from emnesy_gpu.version import __version__  # noqa: E402

project, author, release = "emnesy_gpu", "the emnesy_gpu authors", __version__
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "examples/*.md", "examples/*.ipynb", "profiling/*.md"]
source_suffix = {".md": "markdown", ".ipynb": "ipynb"}
include_patterns += ["profiling/experiments/*.md", "profiling/results/*/tables.md"]

myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "colon_fence", "tasklist"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"emnesy_gpu {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
if site_versions := os.environ.get("EMNESY_SITE_VERSIONS", "").split():
    parts = (
        "sidebar/brand",
        "sidebar/search",
        "sidebar/scroll-start",
        "sidebar/navigation",
        "versions",
        "sidebar/scroll-end",
    )
    html_sidebars = {"**": [f"{part}.html" for part in parts]}
    html_context = {"site_versions": site_versions}
    templates_path = ["templates"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

NUMBERS = re.compile(r"[-+x×±\d.,%:/\s]*")
"""What a cell of numbers may have: '-' or nothing for none, 'x 40' for a factor, '96.2 ± 0.2' with a deviation."""

STAR_OR_BAR = re.compile(r"(?<!\\)([*|])(?=\S)")
CODE = re.compile(r"(``.*?``)")
ATTRIBUTES = re.compile(r":ivar (\w+(?:, \w+)+):")
"""The field of several attributes with one text: Sphinx would take the first for the type of the last."""


def escape(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape stars and bars, as in [batch, *latent_shape], and let equations and examples stand as they are.

    Indented lines after a paragraph are an equation, until a line is not indented; an example ends with a blank line.
    """
    read, kind = [], "text"
    for number, line in enumerate(lines):
        if (kind == "example" and not line.strip()) or (kind == "equation" and line and line[0] != " "):
            kind = "text"
        if kind == "text" and line.lstrip().startswith(">>>"):
            kind = "example"
        if kind == "text" and line.startswith("    ") and _follows_a_paragraph(lines, number):
            kind = "equation"
            read += [".. code-block:: none", ""]
        if kind == "text":
            parts = CODE.split(line)
            parts[::2] = [STAR_OR_BAR.sub(r"\\\1", part) for part in parts[::2]]
            line = "".join(parts)
        elif kind == "equation":
            line = line.replace("``", "")
        read.append(line)
    lines[:] = read


def _follows_a_paragraph(lines: list[str], number: int) -> bool:
    """Whether there is a blank line before, and before it a line of text, which is no field or directive."""
    return number > 1 and not lines[number - 1] and lines[number - 2][:1] not in ("", " ", ".", ":")


def part_attributes(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Give each of several attributes that share a text a field of its own, as arguments have it."""
    read: list[str] = []
    rest = list(lines)
    while rest:
        field = [rest.pop(0)]
        several = ATTRIBUTES.match(field[0])
        if several:
            while rest and rest[0].startswith(" "):
                field.append(rest.pop(0))
            text = field[0][several.end() :]
            for attribute in several[1].split(", "):
                read += [f":ivar {attribute}:{text}", *field[1:]]
        else:
            read += field
    lines[:] = read


def show_arguments(
    app: object, what: str, name: str, obj: type, options: object, signature: str | None, returned: str | None
) -> tuple[str, None] | None:
    """Show what the ``__init__`` of a problem takes: the ``__new__`` that all of them inherit takes anything."""
    if what != "class" or not isinstance(obj.__new__, FunctionType) or not isinstance(obj.__init__, FunctionType):
        return None
    own = inspect.signature(obj.__init__, bound_method=True)
    return inspect.stringify_signature(own, show_return_annotation=False, unqualified_typehints=True), None


def align_numbers(app: object, doctree: nodes.document) -> None:
    """Mark the columns of tables that hold numbers alone, for the style sheet to align them."""
    for group in doctree.findall(nodes.tgroup):
        rows = [row for part in group if isinstance(part, (nodes.thead, nodes.tbody)) for row in part]
        bodies = [row for row in rows if isinstance(row.parent, nodes.tbody)]
        for column in range(min(map(len, rows), default=0)):
            texts = [row[column].astext().strip() for row in bodies]
            if all(NUMBERS.fullmatch(text) for text in texts) and any(map(str.isdigit, "".join(texts))):
                for row in rows:
                    row[column]["classes"].append("number")


def setup(app: object) -> None:
    """Let docstrings be escaped before they are read, notebooks be pages, and the code of pages run."""
    app.add_source_parser(NotebookParser)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", part_attributes, priority=800)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", escape, priority=900)  # type: ignore[attr-defined]
    app.connect("autodoc-process-signature", show_arguments)  # type: ignore[attr-defined]
    app.connect("doctree-read", align_numbers)  # type: ignore[attr-defined]
    app.connect("source-read", execute)  # type: ignore[attr-defined]
