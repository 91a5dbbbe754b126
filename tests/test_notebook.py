"""The notebook runs, learns, and shows outputs that it really has."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
NOTEBOOK = Path(__file__).parent.parent / "examples" / "quickstart.ipynb"
MOST_BYTES = 150_000


def code_cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def without_steps(text: str) -> list[str]:
    """The lines of an output, without those of training, whose last digits differ between machines."""
    return [line for line in text.splitlines() if not line.startswith("step ")]


def test_the_cells_run_in_their_order_and_the_net_learns() -> None:
    names: dict[str, Any] = {}
    for cell in code_cells():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
        saved = "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
        assert without_steps(printed.getvalue()) == without_steps(saved)
    assert names["accuracy"] > 0.95


def test_the_saved_notebook_was_run_from_top_to_bottom() -> None:
    assert [cell["execution_count"] for cell in code_cells()] == list(range(1, len(code_cells()) + 1))
    assert sum("image/png" in output.get("data", {}) for cell in code_cells() for output in cell["outputs"]) == 2
    assert NOTEBOOK.stat().st_size < MOST_BYTES


def test_a_kernel_runs_it() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent.parent)}}
    ).execute()
