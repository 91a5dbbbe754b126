"""Notebooks as pages of the site, with the outputs that they were saved with."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser

PICTURES = Path(__file__).parent.parent / "build" / "notebook_pictures"
FENCE = "```"


class NotebookParser(MystParser):
    """Reads a notebook as the page of Markdown that it is."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse the JSON of a notebook into a document."""
        page = Path(document.settings.env.doc2path(document.settings.env.docname)).parent
        super().parse(as_markdown(json.loads(inputstring), page), document)


def as_markdown(notebook: dict[str, Any], page: Path) -> str:
    """Return the cells as Markdown; pictures are written to the build folder, and linked from the folder ``page``."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(text)
            continue
        parts.append(f"{FENCE}python\n{text}\n{FENCE}")
        parts += [_output(output, page) for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any], page: Path) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        content = base64.b64decode("".join(data["image/png"]))
        path = PICTURES / f"{hashlib.sha256(content).hexdigest()[:16]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"![output of the cell above]({os.path.relpath(path, page)})"
    text = "".join(output["text"] if output["output_type"] == "stream" else data["text/plain"])
    return f"{FENCE}text\n{text.rstrip()}\n{FENCE}"
