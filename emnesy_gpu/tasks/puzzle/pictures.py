"""Pictures of boards: the images with their clues, the digits as the net reads them alone, and the solution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file
from emnesy_gpu.tasks.puzzle.kinds import Clue, Puzzle, Values, greater, packed, total

WRONG = "tab:red"
CENTRED = {"ha": "center", "va": "center"}
MARGIN, RUNS_MARGIN = 0.5, 0.35
"""What clues outside a board take beside and above it: squares, and for nonograms the share of the board's width."""


class BoardView(NamedTuple):
    """One row of the figure: pixels uint8 [cells, 28, 28], and the true, read and solved values, int64 [cells]."""

    pixels: Tensor
    true: Tensor
    read: Tensor
    solved: Tensor


def save_boards(path: Path, puzzle: Puzzle, boards: list[BoardView], title: str) -> None:
    """Write a PNG file with a row per board; a red frame marks the cells that are read or solved wrong."""
    figure = require("matplotlib.figure").Figure(figsize=(9.6, 3.2 * len(boards) + 0.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(boards), 3, squeeze=False)
    for axes, board in zip(grid, boards, strict=True):
        for cell, (row, column) in enumerate(puzzle.cells):
            extent = (column, column + 1, row + 1, row)
            axes[0].imshow(board.pixels[cell].numpy(), cmap="gray", vmin=0, vmax=255, extent=extent)
        for ax, values in zip(axes[1:], (board.read, board.solved), strict=True):
            _draw_values(ax, puzzle, values.tolist())
            for cell in (values != board.true).nonzero()[:, 0].tolist():
                _frame(ax, *puzzle.cells[cell])
        for ax in axes:
            _draw_board(ax, puzzle)
            _draw_clues(ax, puzzle, board.true.tolist())
    for ax, name in zip(grid[0], ("images and clues", "net alone", "posterior given the clues"), strict=True):
        ax.set_title(name)
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=100))


def _draw_board(ax: Any, puzzle: Puzzle) -> None:
    n_rows, n_columns = len(puzzle.squares), len(puzzle.squares[0])
    before = RUNS_MARGIN * n_columns if puzzle.groups[0].clue is packed else MARGIN
    ax.set(xlim=(-before, n_columns + 0.1), ylim=(n_rows + 0.1, -before), aspect="equal")
    ax.axis("off")
    for row, squares in enumerate(puzzle.squares):
        for column, square in enumerate(squares):
            colour = "none" if square == "." else "black"
            ax.add_patch(_square(row, column, facecolor=colour, edgecolor="tab:gray", linewidth=0.8))


def _draw_values(ax: Any, puzzle: Puzzle, values: list[int]) -> None:
    """Draw digits, or the black cells of a picture."""
    for value, (row, column) in zip(values, puzzle.cells, strict=True):
        if puzzle.groups[0].clue is packed:
            ax.add_patch(_square(row, column, facecolor="black" if value else "white", edgecolor="none"))
        else:
            ax.text(column + 0.5, row + 0.5, str(puzzle.digits[value]), fontsize=12, **CENTRED)


def _draw_clues(ax: Any, puzzle: Puzzle, values: list[int]) -> None:
    for groups in puzzle.groups:
        draw = DRAWN.get(groups.clue)
        if draw is None:
            continue
        for scope in groups.cells:
            clue = groups.clue(tuple(values[cell] for cell in scope))
            (row, column), (second, _) = puzzle.cells[scope[0]], puzzle.cells[scope[1]]
            draw(ax, clue, row, column, second > row)


def _draw_runs(ax: Any, clue: Values, row: int, column: int, down: bool) -> None:
    runs = [str(len(run)) for run in "".join(map(str, clue)).split("0") if run] or ["0"]
    size = min(9.0, 65 / len(clue))
    if down:
        ax.text(column + 0.5, row - 0.15, "\n".join(runs), ha="center", va="bottom", fontsize=size)
    else:
        ax.text(column - 0.15, row + 0.5, "  ".join(runs), ha="right", va="center", fontsize=size)


def _draw_sum(ax: Any, clue: Values, row: int, column: int, down: bool) -> None:
    place = (column + 0.5, row - 0.2) if down else (column - 0.25, row + 0.5)
    inside = row > 0 and column > 0
    ax.text(*place, str(10 * clue[0] + clue[1]), color="white" if inside else "black", fontsize=9, **CENTRED)


def _draw_sign(ax: Any, clue: Values, row: int, column: int, down: bool) -> None:
    place = (column + 0.5, row + 1.0) if down else (column + 1.0, row + 0.5)
    sign = ("^v" if down else "<>")[clue[0]]
    ax.text(*place, sign, color="tab:blue", fontsize=11, weight="bold", **CENTRED)


DRAWN: dict[Clue, Callable[..., None]] = {packed: _draw_runs, total: _draw_sum, greater: _draw_sign}
"""Clue -> what draws it at the first cell of its group; ``down`` says whether the group is a column."""


def _frame(ax: Any, row: int, column: int) -> None:
    ax.add_patch(_square(row, column, facecolor="none", edgecolor=WRONG, linewidth=1.6, zorder=3))


def _square(row: int, column: int, **style: Any) -> Any:
    return require("matplotlib.patches").Rectangle((column, row), 1, 1, **style)
