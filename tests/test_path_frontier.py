"""Paths through grids as programs: what a step drops early."""

from __future__ import annotations

import numpy as np
import pytest

from emnesy_gpu.automata.explore import unroll_arrays
from emnesy_gpu.automata.machine import DEAD
from emnesy_gpu.automata.minimise import Table, minimise_layers
from emnesy_gpu.circuits.grid_frontier import CellPaths, Grid, label


class WithoutLookingAhead(CellPaths):
    """The same program; ends are found to be stuck where they leave the frontier."""

    def _look_ahead(self, *_: object) -> None:
        pass


def smallest_tables(tables: list[Table], last: Table) -> list[Table]:
    """The smallest tables of a program, and the states after its last position."""
    kinds = [np.zeros(len(table), np.int64) for table in tables]
    return minimise_layers(tables, [*kinds, np.where(label(last) == 1, 0, DEAD)])[0]


def sizes(paths: CellPaths) -> tuple[int, list[tuple[int, ...]]]:
    """The states that are reached, and the shapes of the smallest tables."""
    n = paths.grid.height * paths.grid.width
    tables, states = unroll_arrays(paths.step, paths.start, [2] * n)
    return sum(map(len, states)), [table.shape for table in smallest_tables(tables, states[-1])]


@pytest.mark.parametrize("diagonals", [False, True])
@pytest.mark.parametrize("ends", [(0, 41), (15, 26), (3, 39)])
def test_looking_ahead_drops_most_states_and_no_path(ends: tuple[int, int], diagonals: bool) -> None:
    grid = Grid(7, 6, *ends)
    n_states, smallest = sizes(CellPaths(grid, diagonals))
    n_all, smallest_of_all = sizes(WithoutLookingAhead(grid, diagonals))
    assert smallest == smallest_of_all
    assert n_states < 0.5 * n_all
