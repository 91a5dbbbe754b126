"""How images of digits become boards of generated puzzles."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist.images import Images
from emnesy_gpu.tasks.mnist.rows import Rows
from emnesy_gpu.tasks.puzzle.kinds import Puzzle
from emnesy_gpu.tasks.puzzle.problem import PuzzleProblem

ORIGIN = "generated"
"""Where the puzzles are from, for reports and summaries."""

BOARDS_AT_A_TIME = 1024


def lay_out(puzzle: Puzzle, problem: PuzzleProblem, images: Images, order: Tensor, generator: torch.Generator) -> Rows:
    """Generate solved boards, and give their cells images in this order, each used once; what is left over is dropped.

    Raises DataError where there are too few images of some value for one board.
    """
    return deal(images, order, solved(puzzle, problem, len(images) // len(puzzle.cells), generator))


def solved(puzzle: Puzzle, problem: PuzzleProblem, n: int, generator: torch.Generator) -> Tensor:
    """Generate n solved boards, int64 [n, cells]."""
    found = [torch.empty(0, len(puzzle.cells), dtype=torch.int64)]
    while sum(map(len, found)) < n:
        drawn = puzzle.solutions(BOARDS_AT_A_TIME, generator)
        found.append(drawn[problem.label(drawn)[:, 0] == 1])
    return torch.cat(found)[:n]


def deal(images: Images, order: Tensor, boards: Tensor) -> Rows:
    """Give cells int64 [n, cells] the next image of their value: the first boards, as many as there are images for."""
    values, index, n_boards = boards.flatten(), torch.zeros(boards.numel(), dtype=torch.int64), len(boards)
    for value in values.unique().tolist():
        unused, places = order[images.classes[order] == value], (values == value).nonzero()[:, 0]
        served = min(len(unused), len(places))
        index[places[:served]] = unused[:served]
        if served < len(places):
            n_boards = min(n_boards, int(places[served]) // boards.shape[1])
    if n_boards == 0:
        raise DataError(f"{len(order)} images are too few for a board of {boards.shape[1]} cells")
    return Rows(images, index.view_as(boards)[:n_boards])
