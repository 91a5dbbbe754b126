"""Our default, re-implementations of other systems, and published accuracies, side by side as a figure."""

from __future__ import annotations

from typing import Any, NamedTuple

from emnesy_gpu.palette import add_legend, new_figure, series
from emnesy_gpu.reproduce import summaries
from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.reproduce.rows import published
from emnesy_gpu.reproduce.summaries import OURS, PUBLISHED, THEIRS, Record, Variant, deviation, done, mean
from emnesy_gpu.tasks.registry import TASKS

WIDTH, ROW, PANEL = 9.0, 0.2, 0.65
"""Inches of the figure, of a row, and of what a panel has beside its rows."""

BLOCKS = {OURS: 0, THEIRS: 1, PUBLISHED: 2}
"""Block -> number of its style."""


class Dot(NamedTuple):
    """One accuracy in %, with the sample standard deviation over seeds where it is known."""

    label: str
    block: str
    accuracy: float
    deviation: float | None


def systems(records: list[Record]) -> Any | None:
    """Draw a panel for every task and size that has a finished re-implementation; None where there is none."""
    trained = {variant: done(seeds) for variant, seeds in summaries.trainings(records).items()}
    trained = {variant: seeds for variant, seeds in trained.items() if seeds}
    panels = {panel: _dots(panel, trained) for panel in summaries.sizes(v for v in trained if METHODS[v.method].rival)}
    if not panels:
        return None
    figure = new_figure(WIDTH, sum(PANEL + ROW * len(dots) for dots in panels.values()) + 0.4)
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[len(dots) + 2 for dots in panels.values()])
    for axes, ((task, size), dots) in zip(grid[:, 0], panels.items(), strict=True):
        _draw(axes, dots)
        axes.set_title(TASKS[task].title(size), loc="left")
    grid[-1, 0].set_xlabel("test accuracy, %\nmean and sample deviation of the seeds")
    add_legend(figure)
    return figure


def _dots(panel: tuple[str, int], trained: dict[Variant, list[Record]]) -> list[Dot]:
    """Return our default, the re-implementations, and what is published, by blocks."""
    task, size = panel
    default = TASKS[task].default_method(size)
    shown = [
        (variant, [100 * record["figures"]["accuracy"] for record in seeds])
        for variant, seeds in trained.items()
        if variant[:2] == panel and (METHODS[variant.method].rival or variant.method == default)
        if variant.published or variant.is_recipe
    ]
    return [Dot(variant.label, variant.block, mean(values) or 0.0, deviation(values)) for variant, values in shown] + [
        Dot(row["method"], PUBLISHED, row["accuracy"], row["sd"])
        for row in published()
        if (row["task"], row["size"]) == panel and row["accuracy"] is not None
    ]


def _draw(axes: Any, dots: list[Dot]) -> None:
    """Draw a row for every dot, the first one on top."""
    for block, number in BLOCKS.items():
        rows = [row for row, dot in enumerate(dots) if dot.block == block]
        if rows:
            style = {**series(number), "linestyle": "none"}
            spread = [dots[row].deviation or 0.0 for row in rows]
            axes.errorbar([dots[row].accuracy for row in rows], rows, xerr=spread, label=block, capsize=2, **style)
    axes.set_yticks(range(len(dots)), [dot.label for dot in dots], size=8)
    axes.set(ylim=(len(dots) - 0.5, -0.5), xlim=(0, 102))
