"""The puzzles of the task: their squares, their clues, and how solved boards are generated.

A clue is a function of the values of some cells. It is written in symbols, as on paper: the sum 17 as 1 and 7. Values
that break a rule of the puzzle have no clue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

Values = tuple[int, ...]
Clue = Callable[[Values], Values | None]
"""The values of cells -> the symbols of their clue, as many for all values; None where they break a rule."""

KAKURO = ("..##", "...#", "#...", "##..")
"""A board of Kakuro; # is a black square."""


class Groups(NamedTuple):
    """Groups of equally many cells with a clue each: cells in reading order, [groups][cells]."""

    cells: list[Values]
    clue: Clue


class Puzzle(NamedTuple):
    """One kind of puzzle at one size.

    squares: the board, a text for each row, "." for a cell. digits: those that cells can show, in ascending order; the
    first is value 0. groups: all rules. solutions: (n, generator) -> solved boards int64 [n, cells], or some of which
    break a rule and are not used.
    """

    squares: tuple[str, ...]
    digits: range
    groups: tuple[Groups, ...]
    solutions: Callable[[int, torch.Generator], Tensor]

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Row and column of each cell, in reading order."""
        rows = enumerate(self.squares)
        return [(i, j) for i, row in rows for j, square in enumerate(row) if square == "."]


def nonogram(size: int) -> Puzzle:
    """A picture of black cells, 1, and white ones, 0; a clue tells the lengths of the black runs of a line in order."""
    squares = ("." * size,) * size
    return Puzzle(squares, range(2), (Groups(lines(squares), packed),), lambda n, rng: pictures(n, size, rng))


def kakuro(size: int) -> Puzzle:
    """Digits 1 to 9; no digit appears twice in a run, and its clue is its sum."""
    runs = lines(KAKURO)
    groups = [Groups([run for run in runs if len(run) == length], total) for length in sorted(set(map(len, runs)))]
    n_cells = "".join(KAKURO).count(".")
    return Puzzle(KAKURO, range(1, 10), tuple(groups), lambda n, rng: torch.randint(9, (n, n_cells), generator=rng))


def futoshiki(size: int) -> Puzzle:
    """Digits 1 to the size, all different in rows and columns; every second pair of neighbours has a sign, < or >."""
    squares = ("." * size,) * size
    every = lines(squares)
    pairs: list[Values] = [pair for line in every for pair in pairwise(line)]
    groups = Groups(every, nothing), Groups(pairs[::2], greater)
    return Puzzle(squares, range(1, size + 1), groups, lambda n, rng: latin_squares(n, size, rng))


def packed(line: Values) -> Values:
    """The black runs of a line, each as far to the left as can be: it says their lengths, and nothing of their places.

    >>> packed((0, 1, 1, 0, 0, 1))
    (1, 1, 0, 1, 0, 0)
    """
    runs = "".join(map(str, line)).split("0")
    return tuple(map(int, "0".join(filter(None, runs)).ljust(len(line), "0")))


def total(run: Values) -> Values | None:
    """The sum of digits, which are the values and 1, as tens and units."""
    return divmod(sum(run) + len(run), 10) if len(set(run)) == len(run) else None


def nothing(line: Values) -> Values | None:
    """No symbol, where all values differ."""
    return () if len(set(line)) == len(line) else None


def greater(pair: Values) -> Values | None:
    """Whether the first is greater than the second: the sign >."""
    return None if pair[0] == pair[1] else (int(pair[0] > pair[1]),)


def lines(squares: tuple[str, ...]) -> list[Values]:
    """The runs of cells in all rows from top to bottom, then in all columns from left to right."""
    number: dict[tuple[int, int], int] = {}
    for i, row in enumerate(squares):
        number |= {(i, j): len(number) + k for k, j in enumerate(j for j, square in enumerate(row) if square == ".")}
    n_rows, n_columns = len(squares), len(squares[0])
    rows = [[number.get((i, j)) for j in range(n_columns)] for i in range(n_rows)]
    return [run for line in (*rows, *zip(*rows, strict=True)) for run in _runs(line)]


def _runs(line: Iterable[int | None]) -> list[Values]:
    runs: list[list[int]] = [[]]
    for cell in line:
        if cell is None:
            runs.append([])
        else:
            runs[-1].append(cell)
    return [tuple(run) for run in runs if run]


def pictures(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw blobs, int64 [n, size * size]: smoothed noise, black where it is above its median."""
    noise = torch.randn(n, size + 2, size + 2, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1).flatten(1)
    return (smooth > smooth.median(1, keepdim=True).values).long()


def latin_squares(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw squares int64 [n, size * size] whose rows and columns are permutations, row by row.

    Every Latin rectangle can be continued (Hall's theorem), so that a row is drawn until it fits.
    """
    squares = torch.empty(n, size, size, dtype=torch.int64)
    for row in range(size):
        left = torch.arange(n)
        while len(left):
            squares[left, row] = torch.rand(len(left), size, generator=generator).argsort(-1)
            clash = (squares[left, :row] == squares[left, row : row + 1]).flatten(1).any(1)
            left = left[clash]
    return squares.flatten(1)


class Kind(NamedTuple):
    """One kind of puzzle: size -> puzzle, and its sizes, the first by default."""

    puzzle: Callable[[int], Puzzle]
    sizes: tuple[int, ...]


KINDS = {
    "nonogram": Kind(nonogram, (5, 10)),
    "kakuro": Kind(kakuro, (len(KAKURO),)),
    "futoshiki": Kind(futoshiki, (4, 5)),
}
"""Name on the command line -> kind; the command takes the first by default."""


def make(kind: str, size: int) -> Puzzle:
    """Return a puzzle; raises ValueError for a size that the kind does not have."""
    sizes = KINDS[kind].sizes
    if size not in sizes:
        raise ValueError(f"{kind} has size {' or '.join(map(str, sizes))}, got {size}")
    return KINDS[kind].puzzle(size)
