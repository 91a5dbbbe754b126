"""Colours, markers and dashes of pictures, which readers tell apart without colours too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito (2008) without its yellow: the colour-blind tell its colours apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))


def series(number: int) -> dict[str, Any]:
    """Return the style of the line of a number: no two of the first 70 have colour and marker in common.

    >>> series(1)["color"], series(1)["marker"]
    ('#D55E00', 's')
    """
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def add_legend(figure: Any, labels: Iterable[str] | None = None, columns: int = 3) -> None:
    """Add a legend below with one entry for each label of all panels; None takes them in the order of the panels."""
    found = {text: line for axes in figure.axes for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = list(found if labels is None else labels)
    lines = [found[label] for label in shown]
    figure.legend(lines, shown, loc="outside lower center", ncols=min(columns, len(shown)))


def new_figure(width: float, height: float) -> Any:
    """Return a figure of so many inches; raises ModuleNotFoundError without matplotlib, with the extra that has it."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures need matplotlib, which is not installed: pip install "emnesy_gpu[train]"', name=error.name
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
