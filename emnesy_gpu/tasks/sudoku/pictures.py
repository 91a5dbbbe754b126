"""Pictures of boards: images, the belief of the net, and the posterior given that the board is valid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.palette import COLOURS
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file

CHANGED = COLOURS[1]
"""The frame of cells that the posterior reads as another symbol."""

INSET = 0.05
"""Of a cell, between its border and its frame."""

COLUMNS = ("images", "belief of the net alone", 'posterior given "valid"')


@dataclass(frozen=True)
class BoardView:
    """One row of the figure: pixels [size, size, 28, 28], two beliefs [size, size, size], and words about it."""

    words: str
    pixels: Tensor
    belief: Tensor
    posterior: Tensor


def save_boards(path: Path, boards: list[BoardView], title: str) -> None:
    """Write ``draw_boards`` as a PNG file."""
    figure = draw_boards(boards, title)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=120))


def draw_boards(boards: list[BoardView], title: str) -> Any:
    """Draw a figure with a row per board, and a key below them.

    Each cell of a belief is a small square of squares, one per symbol in reading order; the darker, the more probable.
    A frame marks the cells whose most probable symbol the posterior changes.
    """
    figure = require("matplotlib.figure").Figure(figsize=(9.6, 3.1 * len(boards) + 1.5), layout="constrained")
    figure.suptitle(title)
    rows, below = figure.subfigures(2, 1, height_ratios=(3.1 * len(boards), 1.0))
    grid = rows.subplots(len(boards), len(COLUMNS), squeeze=False)
    for axes, board in zip(grid, boards, strict=True):
        squares = _draw_board(axes, board)
    for ax, name in zip(grid[0], COLUMNS, strict=True):
        ax.set_title(name)
    _draw_key(below, boards[0].belief.shape[-1], squares)
    return figure


def _draw_board(axes: Any, board: BoardView) -> Any:
    """Draw a board on its axes; returns the squares of a belief, for the scale of colours."""
    size = len(board.pixels)
    picture = board.pixels.movedim(2, 1).flatten(2).flatten(0, 1)
    axes[0].imshow(picture.numpy(), cmap="gray", extent=(0, size, size, 0))
    axes[0].set_ylabel(board.words)
    for ax, belief in zip(axes[1:], (board.belief, board.posterior), strict=True):
        squares = ax.imshow(
            mosaic(belief).numpy(), cmap="Blues", vmin=0, vmax=1, extent=(0, size, size, 0), interpolation="nearest"
        )
    for ax in axes:
        _draw_lines(ax, size)
        for row, column in (board.belief.argmax(-1) != board.posterior.argmax(-1)).nonzero().tolist():
            _frame(ax, row, column)
    return squares


def _draw_key(below: Any, n_symbols: int, squares: Any) -> None:
    """Draw which square of a cell is which symbol, what a frame means, and the scale of colours."""
    cell, frame, scale = below.subplots(1, 3, width_ratios=(1.6, 3.4, 4))
    root = math.isqrt(n_symbols)
    for symbol in range(n_symbols):
        cell.text(symbol % root + 0.5, symbol // root + 0.5, str(symbol), ha="center", va="center", fontsize=9)
    _draw_lines(cell, root)
    cell.set(aspect="equal", xlabel="symbols in a cell")
    _draw_lines(frame, 1)
    _frame(frame, 0, 0)
    frame.set(aspect="equal", xlabel="most probable symbol\nchanges with the label")
    below.colorbar(squares, cax=scale, orientation="horizontal", label="probability of the symbol")
    scale.set_box_aspect(0.12)


def mosaic(belief: Tensor) -> Tensor:
    """Unroll the last axis of [size, size, size] into a square per cell: -> [size * root, size * root]."""
    root = math.isqrt(belief.shape[-1])
    return belief.unflatten(-1, (root, root)).movedim(2, 1).flatten(2).flatten(0, 1)


def _draw_lines(ax: Any, size: int) -> None:
    root = math.isqrt(size)
    for line in range(size + 1):
        width = 2.0 if line % root == 0 else 0.8
        ax.axhline(line, color="tab:gray", linewidth=width)
        ax.axvline(line, color="tab:gray", linewidth=width)
    ax.set(xticks=[], yticks=[], xlim=(0, size), ylim=(size, 0))


def _frame(ax: Any, row: int, column: int) -> None:
    near, far = INSET, 1.0 - INSET
    corners = torch.tensor([[near, near], [far, near], [far, far], [near, far], [near, near]])
    ax.plot(*(corners + torch.tensor([column, row])).T.numpy(), color=CHANGED, linewidth=2.0)
