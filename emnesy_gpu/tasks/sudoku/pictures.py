"""Pictures of boards: images, the belief of the net, and the posterior given that the board is valid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file

DIFFERENT = "tab:red"


@dataclass(frozen=True)
class BoardView:
    """One row of the figure: pixels [size, size, 28, 28], two beliefs [size, size, size], and words about it."""

    words: str
    pixels: Tensor
    belief: Tensor
    posterior: Tensor


def save_boards(path: Path, boards: list[BoardView], title: str) -> None:
    """Write a PNG file with a row per board.

    Each cell of a belief is a small square of squares, one per symbol in reading order; the darker, the more probable.
    A red frame marks the cells whose most probable symbol the posterior changes.
    """
    figure = require("matplotlib.figure").Figure(figsize=(9.6, 3.2 * len(boards) + 0.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(boards), 3, squeeze=False)
    for axes, board in zip(grid, boards, strict=True):
        size = len(board.pixels)
        changed = board.belief.argmax(-1) != board.posterior.argmax(-1)
        picture = board.pixels.movedim(2, 1).flatten(2).flatten(0, 1)
        axes[0].imshow(picture.numpy(), cmap="gray", extent=(0, size, size, 0))
        axes[0].set_ylabel(board.words)
        for ax, belief in zip(axes[1:], (board.belief, board.posterior), strict=True):
            squares = mosaic(belief).numpy()
            ax.imshow(squares, cmap="Blues", vmin=0, vmax=1, extent=(0, size, size, 0), interpolation="nearest")
        for ax in axes:
            _draw_lines(ax, size)
            for row, column in changed.nonzero().tolist():
                _frame(ax, row, column)
    for ax, name in zip(grid[0], ("images", "net alone, a square per symbol", 'posterior given "valid"'), strict=True):
        ax.set_title(name)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=120))


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
    corners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) + torch.tensor([column, row])
    ax.plot(*corners.T.numpy(), color=DIFFERENT, linewidth=1.6)
