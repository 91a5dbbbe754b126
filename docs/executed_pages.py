"""Pages of Markdown whose blocks of Python run while the site is built: what they print and draw stands below them."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

PICTURES = Path(__file__).parent.parent / "build" / "page_pictures"
BLOCK = re.compile(r"```python\n(.*?)```\n", re.DOTALL)
DOTS_PER_INCH = 110


def executed(text: str, name: str, keep: Callable[[Any], str], **names: Any) -> str:
    """Run the blocks of a page in their order, in one namespace, and return the page with their outputs.

    As in a notebook, a figure of matplotlib that is the last expression of a block is shown. ``keep`` writes it to a
    file and returns the link. ``names`` are there from the start. The random numbers of torch start with seed 0. What a
    block raises is passed on.
    """
    torch.manual_seed(0)

    def with_outputs(match: re.Match[str]) -> str:
        printed, last = _run(match[1], name, names)
        parts = [match[0]]
        if printed.strip():
            parts.append(f"```text\n{printed.rstrip()}\n```\n")
        if hasattr(last, "savefig"):
            parts.append(f"![{title_of(last)}]({keep(last)})\n")
        return "\n".join(parts)

    return BLOCK.sub(with_outputs, text)


def _run(block: str, name: str, names: dict[str, Any]) -> tuple[str, Any]:
    """Run a block; return what it printed, and the value of its last line where that is an expression."""
    tree, last = ast.parse(block, name), None
    expression = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), names)
        if isinstance(expression, ast.Expr):
            last = eval(compile(ast.Expression(expression.value), name, "eval"), names)
    return printed.getvalue(), last


def title_of(figure: Any) -> str:
    """Return the words that stand in place of a picture for those who do not see it."""
    titles = [figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)]
    return next((title for title in titles if title), "picture made by the code above").replace("\n", ", ")


def execute(app: Any, docname: str, content: list[str]) -> None:
    """Run the page ``docname`` when Sphinx reads it; a block that fails is an error of the build."""
    page = Path(app.env.doc2path(docname))
    if page.suffix != ".md" or not docname.startswith("docs/") or not BLOCK.search(content[0]):
        return

    def keep(figure: Any) -> str:
        data = io.BytesIO()
        figure.savefig(data, dpi=DOTS_PER_INCH, metadata={"Software": None})
        path = PICTURES / f"{hashlib.sha256(data.getvalue()).hexdigest()[:16]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.getvalue())
        return os.path.relpath(path, page.parent)

    content[0] = executed(content[0], docname, keep)
