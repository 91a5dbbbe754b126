"""Sudoku: rows, columns and boxes of a filled board must hold every symbol once."""

from __future__ import annotations

from math import isqrt
from typing import Any

from emnesy_gpu import checks
from emnesy_gpu.problems.all_different import AllDifferent

SIZES = (4, 9, 16)
"""Squares, for the boxes, of at most as many values as all-different factors take."""


class Sudoku(AllDifferent):
    """A board of size x size symbols whose rows, columns and boxes must all differ; the label says whether they do.

    Size 4 has 288 valid boards: inference is exact by default, and so are samples and the most probable board.
    Sizes 9 and 16 take loopy belief propagation with one all-different factor per row, column and box (see
    ``em.BeliefPropagation``). A printed puzzle is a board whose given cells have hard zeros (-inf logits) for every
    other symbol. Equations, costs and errors: see ``em.AllDifferent``. Source: Visual Sudoku of EM-NeSy (arXiv
    2606.14463), where a net reads the cells.

    Args:
        size: 4, 9 or 16.
        constraints: what ``em.ABC`` counts: "groups" (27 on 9x9), or "pairs" of cells that must differ (810).

    Attributes:
        latent_shape: ``(size, size)``.
        cardinality: ``size``; symbols are 0..size-1.
        label_shape: ``()``: one integer per board, 1 for valid and 0 for not.

    >>> import torch, emnesy_gpu as em
    >>> problem = Sudoku(4)
    >>> board = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])
    >>> int(problem.label(board)), int(problem.label(torch.zeros_like(board)))
    (1, 0)
    >>> logits = 3.0 * torch.nn.functional.one_hot(board, 4)[None]
    >>> logits[0, 0, 0] = 0.0                                        # the net has no idea of the first cell
    >>> em.posterior(problem, logits, torch.tensor([1])).marginals[0, 0, 0].argmax().item()
    0
    """

    def __init__(self, size: int = 9, constraints: str = "groups") -> None:
        if not checks.is_among(size, SIZES):
            raise ValueError(f"size must be one of {SIZES}, got {size!r}")
        self.size = size
        super().__init__(_groups(size), size * size, size, constraints)
        self.latent_shape = (size, size)

    @property
    def settings(self) -> dict[str, Any]:
        return {"size": self.size, "constraints": self.constraints}

    def __repr__(self) -> str:
        return f"Sudoku(size={self.size})"


def _groups(size: int) -> list[tuple[int, ...]]:
    """The cells of all rows, then columns, then boxes; cells are numbered in reading order."""
    side = isqrt(size)
    rows = [tuple(size * row + column for column in range(size)) for row in range(size)]
    columns = [tuple(size * row + column for row in range(size)) for column in range(size)]
    boxes = [
        tuple(size * (top + row) + left + column for row in range(side) for column in range(side))
        for top in range(0, size, side)
        for left in range(0, size, side)
    ]
    return rows + columns + boxes
