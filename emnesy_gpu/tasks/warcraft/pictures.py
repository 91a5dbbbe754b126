"""Pictures of maps with their true and their predicted path, and with the beliefs of a few cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.palette import COLOURS
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file
from emnesy_gpu.tasks.warcraft.windows import places

CLASS_NAMES = ("grass", "earth", "forest", "water", "rock")
CLASS_COLOURS = ("#cdeb8b", "#d99a3f", "#12451c", "#4a90d9", "#77707c")
"""They differ in lightness, for the colour-blind."""

TRUE_PATH, PREDICTED_PATH, OUTLINE = "white", "#D55E00", "black"
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
    """Write ``draw_maps`` as a PNG file."""
    figure = draw_maps(maps, title)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=110))


def draw_maps(maps: list[MapView], title: str) -> Any:
    """Draw a figure with a row per map: picture and paths, predicted classes and paths, beliefs of a few cells.

    The cells (row, column) are those that the posterior changes most; their numbers stand on the map. A dot marks the
    true class.
    """
    figure = require("matplotlib.figure").Figure(figsize=(10.5, 2.9 * len(maps) + 1.2), layout="constrained")
    figure.suptitle(title)
    ratios = [2.2, 2.2, *[1.0] * N_CELLS]
    grid = figure.subplots(len(maps), 2 + N_CELLS, squeeze=False, width_ratios=ratios)
    for axes, view in zip(grid, maps, strict=True):
        _draw_map(axes[0], axes[1], view)
        for number, (ax, cell) in enumerate(zip(axes[2:], changed_cells(view), strict=True), start=1):
            _draw_beliefs(ax, view, cell, f"{number}: row {cell[0]},\ncolumn {cell[1]}")
            for of_map in axes[:2]:
                _number(of_map, cell, number)
        axes[2].set(ylabel="probability of the class", yticklabels=["0", "0.5", "1"])
    _add_legend(figure, grid[0])
    return figure


def _number(ax: Any, cell: tuple[int, int], number: int) -> None:
    """Write the number of a cell in a white circle."""
    circle = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": OUTLINE, "linewidth": 0.8}
    place = cell[1] + 0.5, cell[0] + 0.5
    ax.text(*place, str(number), color="black", ha="center", va="center", fontsize=8, bbox=circle, zorder=5)


def _add_legend(figure: Any, axes: Any) -> None:
    """Add the lines, bars and class colours of all rows."""
    patch = require("matplotlib.patches").Patch
    classes = [
        patch(facecolor=colour, edgecolor=OUTLINE, label=name)
        for name, colour in zip(CLASS_NAMES, CLASS_COLOURS, strict=True)
    ]
    handles = [*axes[1].get_legend_handles_labels()[0], *axes[2].get_legend_handles_labels()[0], *classes]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, facecolor="lightgray")


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
    classes.plot(wrong[:, 1] + 0.5, wrong[:, 0] + 0.5, "x", color="black", markersize=5, label="class is wrong")
    classes.set(title=f"classes as read,\n{len(wrong)} of {view.true.numel()} wrong")
    for ax in (picture, classes):
        _draw_path(ax, view.true_path, color=OUTLINE, linewidth=5.0)
        _draw_path(ax, view.true_path, color=TRUE_PATH, linewidth=3.0, label="true path")
        _draw_path(
            ax, view.predicted_path, color=PREDICTED_PATH, linewidth=2.2, linestyle=(0, (3, 1)), label="predicted path"
        )
        ax.set(xticks=[], yticks=[], xlim=(0, size), ylim=(size, 0))


def _draw_path(ax: Any, path: Tensor, **style: Any) -> None:
    rows, columns = _line(path)
    ax.plot(columns, rows, **style)


def _line(mask: Tensor) -> tuple[Any, Any]:
    """Return rows and columns of the middles of the cells of a path, in their order."""
    place = places(mask[None])[0]
    cells = (place >= 0).nonzero()
    cells = cells[place[cells[:, 0], cells[:, 1]].argsort()]
    rows, columns = (cells + 0.5).double().numpy().T
    return rows, columns


def _draw_beliefs(ax: Any, view: MapView, cell: tuple[int, int], title: str) -> None:
    position = torch.arange(len(CLASS_NAMES)).double().numpy()
    ax.bar(position - 0.2, view.belief[cell].numpy(), width=0.4, color="#b0b0b0", label="net alone")
    ax.bar(position + 0.2, view.posterior[cell].numpy(), width=0.4, color=COLOURS[0], label="given the path")
    ax.plot(int(view.true[cell]), 1.06, "o", color="black", label="true class", linestyle="none")
    ax.set_title(title, fontsize=10)
    ax.set(ylim=(0, 1.13), xticks=position.tolist(), yticks=[0, 0.5, 1], yticklabels=[])
    ax.set_xticklabels(CLASS_NAMES, rotation=90)
    ax.grid(axis="y", alpha=0.3)
