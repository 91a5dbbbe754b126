"""Pictures of maps with their true and their predicted path, and with the beliefs of a few cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file
from emnesy_gpu.tasks.warcraft.windows import places

CLASS_NAMES = ("grass", "earth", "forest", "water", "rock")
CLASS_COLOURS = ("#8fce5a", "#c9924a", "#2f6b2a", "#3f7fbf", "#8a8086")
TRUE_PATH, PREDICTED_PATH = "white", "tab:red"
N_CELLS = 4
"""Cells of a map whose beliefs are shown."""


@dataclass(frozen=True)
class MapView:
    """One row of the figure, a map of size x size cells.

    words: about it. pixels: [8 size, 8 size, 3]. predicted: classes [size, size]. true_path, predicted_path: masks
    [size, size]. belief, posterior: [size, size, n_classes], the net alone and given the true path. true: classes.
    """

    words: str
    pixels: Tensor
    predicted: Tensor
    true_path: Tensor
    predicted_path: Tensor
    belief: Tensor
    posterior: Tensor
    true: Tensor


def save_maps(path: Path, maps: list[MapView], title: str) -> None:
    """Write a PNG file with a row per map: picture and paths, predicted classes and paths, beliefs of a few cells.

    The cells (row, column) are those that the posterior changes most; their numbers stand on the map. A dot marks the
    true class.
    """
    figure = require("matplotlib.figure").Figure(figsize=(14.0, 3.6 * len(maps) + 0.8), layout="constrained")
    figure.suptitle(title)
    ratios = [2.2, 2.2, *[1.0] * N_CELLS]
    grid = figure.subplots(len(maps), 2 + N_CELLS, squeeze=False, width_ratios=ratios)
    for axes, view in zip(grid, maps, strict=True):
        _draw_map(axes[0], axes[1], view)
        for number, (ax, cell) in enumerate(zip(axes[2:], changed_cells(view), strict=True), start=1):
            _draw_beliefs(ax, view, cell, f"{number}: ({cell[0]}, {cell[1]})")
            for of_map in axes[:2]:
                of_map.text(cell[1] + 0.5, cell[0] + 0.5, str(number), color="yellow", ha="center", va="center")
    lines = [*grid[0, 0].get_lines(), *grid[0, 2].get_legend_handles_labels()[0]]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), facecolor="lightgray")
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=110))


def changed_cells(view: MapView) -> list[tuple[int, int]]:
    """Return the ``N_CELLS`` cells whose belief the path changes most, in reading order."""
    change = (view.posterior - view.belief).abs().sum(-1).flatten()
    cells = change.topk(N_CELLS).indices.sort().values
    width = view.belief.shape[1]
    return [(cell // width, cell % width) for cell in cells.tolist()]


def _draw_map(picture: Any, classes: Any, view: MapView) -> None:
    size = len(view.predicted)
    colours = require("matplotlib.colors").ListedColormap(CLASS_COLOURS)
    picture.imshow(view.pixels.numpy(), extent=(0, size, size, 0))
    picture.set(title="map and paths", ylabel=view.words)
    classes.imshow(view.predicted.numpy(), cmap=colours, vmin=-0.5, vmax=4.5, extent=(0, size, size, 0))
    wrong = (view.predicted != view.true).nonzero().numpy()
    classes.plot(wrong[:, 1] + 0.5, wrong[:, 0] + 0.5, "x", color="black", markersize=5)
    classes.set(title=f"classes as read, {len(wrong)} wrong (x)")
    for ax in (picture, classes):
        for mask, name, style in (
            (view.true_path, "true path", {"color": TRUE_PATH, "linewidth": 3.0}),
            (view.predicted_path, "predicted path", {"color": PREDICTED_PATH, "linewidth": 1.5, "linestyle": "--"}),
        ):
            rows, columns = _line(mask)
            ax.plot(columns, rows, label=name, **style)
        ax.set(xticks=[], yticks=[], xlim=(0, size), ylim=(size, 0))


def _line(mask: Tensor) -> tuple[Any, Any]:
    """Return rows and columns of the middles of the cells of a path, in their order."""
    place = places(mask[None])[0]
    cells = (place >= 0).nonzero()
    cells = cells[place[cells[:, 0], cells[:, 1]].argsort()]
    rows, columns = (cells + 0.5).double().numpy().T
    return rows, columns


def _draw_beliefs(ax: Any, view: MapView, cell: tuple[int, int], title: str) -> None:
    position = torch.arange(len(CLASS_NAMES)).double().numpy()
    ax.bar(position - 0.2, view.belief[cell].numpy(), width=0.4, color="tab:gray", label="net alone")
    ax.bar(position + 0.2, view.posterior[cell].numpy(), width=0.4, color="tab:blue", label="given the path")
    ax.plot(int(view.true[cell]), 1.04, "o", color="black", label="true class")
    ax.set(ylim=(0, 1.1), xticks=position.tolist(), title=title)
    ax.set_xticklabels(CLASS_NAMES, rotation=60)
