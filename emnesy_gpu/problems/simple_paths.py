"""Paths through a grid, one edge or one cell a symbol."""

from __future__ import annotations

from math import prod
from typing import Any

from emnesy_gpu import checks
from emnesy_gpu.circuits.grid_frontier import CellPaths, EdgePaths, Grid, label
from emnesy_gpu.circuits.path_frontier import MAX_WIDTH
from emnesy_gpu.circuits.program import Program, compile_program
from emnesy_gpu.problems.circuit_problem import CircuitProblem

MAX_PATH_STATES = 1 << 24


class SimplePaths(CircuitProblem):
    """Whether a set of edges, or of cells, of a grid is a path from one cell to another that meets no cell twice.

    A circuit by the frontier method: every path is one way through a decision diagram over the edges or cells. It
    serves as a probabilistic layer for paths: p(y | x) of a path with independent logits, given that it is a path
    (Ahmed et al., "Semantic probabilistic layers for neuro-symbolic learning", 2022).

    Args:
        height, width: of the grid; the width at most 19, and best the smaller one.
        source, target: (row, column) of the ends; by default the first and the last corner.
        over: "edges": a symbol for each edge, 1 where the path takes it; ``edges`` lists their cells. "cells": a symbol
            for each cell, 1 where the path goes through it. Only paths without chords are then paths: cells of the path
            are neighbours only if one follows the other, so that the cells tell the path. The cheapest path is one of
            these wherever all cells cost something.
        neighbours: of a cell, 4, or 8 with diagonals, which needs over="cells".

    Attributes:
        latent_shape: ``(number of edges,)`` or ``(height, width)``; cardinality 2.
        edges: the two cells of each edge, numbered in row-major order, in the order of the symbols.
        labels: [None, 1]: the label is 1, a path.

    The circuit grows by a factor of about 3.6 with a row and a column. Terms over edges: 1,227 for 5x5, 18,328 for 7x7,
    783,872 for 10x10. Over cells: 894 for 6x6, 146,256 for 10x10, 1,380,884 for 12x12; with diagonals 1,064, 147,724
    and 1,489,173. Raises ValueError and TypeError for sizes and cells that do not exist, and for more than 2^24 states.

    >>> import torch, emnesy_gpu as em
    >>> paths = em.SimplePaths(4, 4)
    >>> paths.model_count(1)
    184
    >>> cells = em.SimplePaths(3, 3, over="cells")
    >>> logits = torch.zeros(1, 3, 3, 2)
    >>> logits[0, 0, 2, 1] = 50.0                                # the path goes through the upper right corner
    >>> post = em.posterior(cells, logits, torch.tensor([1]), em.MAP())
    >>> post.info["assignment"][0].tolist()
    [[1, 1, 1], [0, 0, 1], [0, 0, 1]]
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        source: tuple[int, int] = (0, 0),
        target: tuple[int, int] | None = None,
        over: str = "edges",
        neighbours: int = 4,
    ) -> None:
        checks.is_integer("height", height, 1, checks.MOST_SYMBOLS // MAX_WIDTH)
        checks.is_integer("width", width, 1, MAX_WIDTH)
        checks.is_one_of("over", over, ("edges", "cells"))
        if not checks.is_among(neighbours, (4,) if over == "edges" else (4, 8)):
            raise ValueError(f'neighbours must be 4, or 8 with over="cells", got {neighbours!r} with over={over!r}')
        last = (height - 1, width - 1) if target is None else target
        ends = [_cell(name, cell, height, width) for name, cell in (("source", source), ("target", last))]
        if ends[0] == ends[1]:
            raise ValueError(f"source and target must differ, got {source} for both")
        grid = Grid(height, width, *ends)
        self.edges = grid.edges
        self._settings = {"height": height, "width": width, "source": source, "target": last}
        self._settings |= {"over": over, "neighbours": neighbours}
        shape = (len(grid.edges),) if over == "edges" else (height, width)
        n_symbols = prod(shape)
        paths = EdgePaths(grid) if over == "edges" else CellPaths(grid, neighbours == 8)
        program = Program(paths.step, paths.start, label, arrays=True, trusted=True)
        compiled = compile_program(program, [2] * n_symbols, None, MAX_PATH_STATES)
        CircuitProblem.__init__(self, compiled.graph, shape, compiled.labels, has_entries=False)

    @property
    def settings(self) -> dict[str, Any]:
        return self._settings


def _cell(name: str, cell: tuple[int, int], height: int, width: int) -> int:
    if len(checks.items(name, cell, "(row, column)")) != 2:
        raise ValueError(f"{name} must be (row, column), got {cell!r}")
    row, column = cell
    checks.is_integer(f"{name}[0]", row, 0, height - 1)
    checks.is_integer(f"{name}[1]", column, 0, width - 1)
    return row * width + column
