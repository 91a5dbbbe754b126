"""Cheapest paths on grids, DISTANCE_LANES maps at a time: rows relaxed down and up, and walks back from the goal.

Arrays of cells are [(height + 2) * (width + 2), DISTANCE_LANES], uint16 or uint32, a row per cell of the map with a
border around it. Cells are named by their rows there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.distance_lanes import (
    DISTANCE_LANES,
    FEW_LANES,
    add,
    any_positive,
    few_lanes,
    load,
    maximum,
    minimum,
    store,
    subtract,
    unreachable,
    zeros_like,
)


class Workspace(NamedTuple):
    """The arrays of a block of maps, all of one type; a column per map, and a row per cell of the map with a border."""

    costs: np.ndarray  # [cells, lanes], 0 on the border
    distances: np.ndarray  # [cells, lanes]
    cap: np.ndarray  # [lanes]: distances from here on do not matter
    limit: np.ndarray  # [1, lanes]: scratch
    row: np.ndarray  # [width, lanes]: scratch


@lane_function
def empty_workspace(numbers, height, width):
    """For maps of that size, in the type of an array of numbers, with costs 0 and no cap."""
    shape = ((height + 2) * (width + 2), DISTANCE_LANES)
    return Workspace(
        np.zeros(shape, numbers.dtype),
        np.empty(shape, numbers.dtype),
        np.full(DISTANCE_LANES, unreachable(numbers)),
        np.empty((1, DISTANCE_LANES), numbers.dtype),
        np.empty((width, DISTANCE_LANES), numbers.dtype),
    )


@lane_function
def few_workspace(numbers, height, width):
    """The same with FEW_LANES."""
    cells = (height + 2) * (width + 2)
    costs = few_lanes(cells, numbers.dtype)
    costs[:] = 0
    cap = np.full(FEW_LANES, unreachable(numbers))
    limit, row = few_lanes(1, numbers.dtype), few_lanes(width, numbers.dtype)
    return Workspace(costs, few_lanes(cells, numbers.dtype), cap, limit, row)


@lane_function
def bordered(cell, width):
    """Where a cell of a map is in arrays with a border."""
    return (cell // width + 1) * (width + 2) + cell % width + 1


@lane_function
def relax_row(workspace, first, before):
    """Relax the cells from ``first`` on from those from ``before`` on, then from the left, then from the right.

    Distances become d(cell) = cost(cell) + min over the neighbours of d. Afterwards no step within the row is worth
    taking. Returns whether some distance fell to something below the limit.
    """
    costs, d, _, limit, row = workspace
    width = len(row)
    behind, beside, left = load(d, before - 1), load(d, before), load(d, first - 1)
    for q in range(width):
        ahead, cost = load(d, before + q + 1), load(costs, first + q)
        nearest = minimum(minimum(behind, beside), ahead)
        left = minimum(minimum(load(d, first + q), add(nearest, cost)), add(left, cost))
        store(row, q, left)
        behind, beside = beside, ahead
    bound, right = load(limit, 0), load(d, first + width)
    improved = zeros_like(bound)
    for q in range(width - 1, -1, -1):
        right = minimum(load(row, q), add(right, load(costs, first + q)))
        improved = maximum(improved, subtract(minimum(load(d, first + q), bound), right))
        store(d, first + q, right)
    return any_positive(improved)


@lane_function
def measure(workspace, start, goal):
    """Distances: cost of the cheapest path from start [lanes] to each cell, or more where they do not matter.

    Distances matter up to that of the goal [lanes] and below the cap. A goal on the border is never reached, and
    ``unreachable`` is no cap.
    """
    costs, d, cap, limit, row = workspace
    side = len(row) + 2
    height = len(costs) // side - 2
    d[:] = unreachable(d)
    # Rows that have yet to be relaxed from the row above and from the row below.
    waiting = np.zeros((2, height + 2), np.bool_)
    lanes = costs.shape[1]
    for lane in range(lanes):
        d[start[lane], lane] = costs[start[lane], lane]
        r = start[lane] // side
        waiting[0, r] = waiting[0, r + 1] = waiting[1, r - 1] = True
    upwards = 0
    while waiting[:, 1:-1].any():
        for lane in range(lanes):
            limit[0, lane] = min(d[goal[lane], lane], cap[lane])
        for step in range(height):
            r = height - step if upwards else step + 1
            if waiting[upwards, r]:
                waiting[upwards, r] = False
                before = r + 1 if upwards else r - 1
                if relax_row(workspace, r * side + 1, before * side + 1):
                    waiting[0, r + 1] = waiting[1, r - 1] = True
        upwards = 1 - upwards


@lane_function
def walk_back(costs, d, side, start, goal, path):
    """The cells from goal to start, of one lane (costs and d are [cells]), into path; their number."""
    length, cell = 1, goal
    path[0] = goal
    while cell != start:
        wanted = d[cell] - costs[cell]
        cell -= side + 1
        while d[cell] != wanted:
            # The 8 neighbours in reading order; the cell itself, between the fourth and the fifth, is farther away.
            offset = cell - path[length - 1]
            cell += side - 2 if offset == 1 - side or offset == 1 else 1
        path[length] = cell
        length += 1
    return length
