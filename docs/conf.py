"""Settings of Sphinx for ``make docs``. The source is the whole repository, so that links between pages hold."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

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
suppress_warnings = ["myst.header"]  # Pages of tables alone have no title.

myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "colon_fence"]
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

STAR_OR_BAR = re.compile(r"(?<!\\)([*|])(?=\S)")
CODE = re.compile(r"(``.*?``)")


def escape(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape stars and bars, as in [batch, *latent_shape], and let indented equations stand as they are."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...", "    ")):
            parts = CODE.split(line)
            parts[::2] = [STAR_OR_BAR.sub(r"\\\1", part) for part in parts[::2]]
            lines[number] = "".join(parts)
    for number in reversed(range(2, len(lines))):
        before = lines[number - 2]
        if lines[number].startswith("    ") and not lines[number - 1] and before and before[0] not in " .:":
            lines[number - 1 : number] = ["", "::", ""]


def setup(app: object) -> None:
    """Let docstrings be escaped before they are read, notebooks be pages, and the code of pages run."""
    app.add_source_parser(NotebookParser)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", escape, priority=900)  # type: ignore[attr-defined]
    app.connect("source-read", execute)  # type: ignore[attr-defined]
