"""Paths through grids as programs: what a step drops early."""

from __future__ import annotations

import numpy as np
import pytest

from emnesy_gpu.automata.explore import unroll_arrays
from emnesy_gpu.automata.machine import DEAD
from emnesy_gpu.automata.minimise import Table, minimise_layers
from emnesy_gpu.circuits.grid_frontier import CellPaths, EdgePaths, Grid, label
from emnesy_gpu.circuits.remembered import Remembered


class WithoutLookingAhead(CellPaths):
    """The same program; ends are found to be stuck where they leave the frontier."""

    def _limit_below(self, *_: object) -> None:
        pass

    def _limit_above(self, *_: object) -> None:
        pass


def smallest_tables(tables: list[Table], last: Table) -> list[Table]:
    """The smallest tables of a program, and the states after its last position."""
    kinds = [np.zeros(len(table), np.int64) for table in tables]
    return minimise_layers(tables, [*kinds, np.where(label(last) == 1, 0, DEAD)])[0]


def sizes(paths: CellPaths) -> tuple[int, list[tuple[int, ...]]]:
    """The states that are reached, and the shapes of the smallest tables."""
    n = paths.grid.height * paths.grid.width
    steps = Remembered(paths, n)
    tables, states = unroll_arrays(steps.step, steps.start, [2] * n)
    smallest = smallest_tables(tables, steps.last_states(states[-1]))
    return sum(map(len, states)), [table.shape for table in smallest]


@pytest.mark.parametrize("diagonals", [False, True])
@pytest.mark.parametrize("ends", [(0, 41), (15, 26), (3, 39)])
def test_looking_ahead_drops_most_states_and_no_path(ends: tuple[int, int], diagonals: bool) -> None:
    grid = Grid(7, 6, *ends)
    n_states, smallest = sizes(CellPaths(grid, diagonals))
    n_all, smallest_of_all = sizes(WithoutLookingAhead(grid, diagonals))
    assert smallest == smallest_of_all
    assert n_states < 0.5 * n_all


@pytest.mark.parametrize("paths", [EdgePaths(Grid(6, 5, 7, 22)), CellPaths(Grid(7, 6, 15, 26), diagonals=True)])
def test_remembered_steps_make_the_tables_of_steps_that_are_not(paths: EdgePaths | CellPaths) -> None:
    n = len(paths.edges) if isinstance(paths, EdgePaths) else 42
    steps = Remembered(paths, n)
    tables, numbers = unroll_arrays(steps.step, steps.start, [2] * n)
    each_time, states = unroll_arrays(lambda s, v, i: paths.successors(s[:, 0], i), paths.start, [2] * n)
    found = smallest_tables(tables, steps.last_states(numbers[-1]))
    for table, expected in zip(found, smallest_tables(each_time, states[-1]), strict=True):
        assert np.array_equal(table, expected)
