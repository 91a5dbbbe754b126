"""What the cheapest path of a map becomes when a single cell changes, for every cell and every cost, exactly.

A cell off the path takes it over once the cheapest path through the cell is better; a cell on the path loses it once
the cheapest path around the cell is. The former follows from distances to both ends, the latter is measured with the
cell blocked. Paths of equal cost are told apart by the first step in which they differ, seen from the goal: the cell
that comes first in reading order wins, which has the lower number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.distance_lanes import DISTANCE_LANES, unreachable
from emnesy_gpu.kernels.cpu.grid_paths.sweeps import Workspace, measure, walk_back

UNKNOWN = -1
"""No cell: cells are named by their rows in arrays with a border, whose corner is never on a path."""


class Label(NamedTuple):
    """What the paths of samples are compared with, and what the comparison is worth."""

    sign: np.ndarray  # int64 [cells]: what a cell adds to the number of differing cells when a path takes it
    n_cells: int  # on the label
    weights: np.ndarray  # float64 [N + 1]: by the number of differing cells
    table: np.ndarray  # int32 [K]: costs of the classes
    side: int  # width of the map with its border


class Block(NamedTuple):
    """Samples of one row in lanes, and their paths."""

    n_lanes: int
    costs: np.ndarray  # [cells, lanes]
    from_start: np.ndarray  # [cells, lanes]: distances
    to_goal: np.ndarray  # [cells, lanes]
    starts: np.ndarray  # int64 [lanes]
    goals: np.ndarray  # int64 [lanes]
    paths: np.ndarray  # int64 [lanes, N]: from goal to start
    lengths: np.ndarray  # int64 [lanes]
    differing: np.ndarray  # int64 [lanes]: cells that are on path or label, but not on both


class Sample(NamedTuple):
    """One lane of a block."""

    costs: np.ndarray  # [cells]
    from_start: np.ndarray  # [cells]
    to_goal: np.ndarray  # [cells]
    path: np.ndarray  # int64 [length]
    differing: int


class Ways(NamedTuple):
    """What is known of the cheapest ways of one sample, by cell; scratch."""

    after: np.ndarray  # int64: the next cell of the path on the way to the start, or UNKNOWN off it
    parent: np.ndarray  # int64: the next cell on the way to the goal, or UNKNOWN
    towards_goal: np.ndarray  # int64: sum of signs from the cell to the goal
    before_path: np.ndarray  # bool: the way to the goal meets the path from the lower side, seen from the goal
    known: np.ndarray  # bool: whether towards_start is known
    towards_start: np.ndarray  # int64: sum of signs from the cell to the start
    stack: np.ndarray  # int64


@lane_function
def label_of(mask, weights, table):
    """The label of one row, from its mask [H, W]."""
    height, width = mask.shape
    sign = np.ones((height + 2) * (width + 2), np.int64)
    n_cells = 0
    for r in range(height):
        for q in range(width):
            if mask[r, q] != 0:
                sign[(r + 1) * (width + 2) + q + 1] = -1
                n_cells += 1
    return Label(sign, n_cells, weights, table, width + 2)


@lane_function
def changes_of_block(workspace, n_lanes, ends, label, total):
    """total[i, v] += weights[cells that differ from the label after cell i is given cost table[v]], for every lane.

    workspace: with the costs of the samples; ends: the cells of start and goal. total: float64 [N, K].
    """
    costs, _, _, limit, row = workspace
    start, goal = ends
    from_start, to_goal = np.empty_like(costs), np.empty_like(costs)
    starts, goals = np.full(DISTANCE_LANES, start), np.full(DISTANCE_LANES, goal)
    everywhere, no_cap = np.zeros(DISTANCE_LANES, np.int64), np.full(DISTANCE_LANES, unreachable(costs))
    measure(Workspace(costs, from_start, no_cap, limit, row), starts, everywhere)
    measure(Workspace(costs, to_goal, no_cap, limit, row), goals, everywhere)
    paths, lengths = np.empty((DISTANCE_LANES, len(total)), np.int64), np.zeros(DISTANCE_LANES, np.int64)
    differing = np.zeros(DISTANCE_LANES, np.int64)
    block = Block(n_lanes, costs, from_start, to_goal, starts, goals, paths, lengths, differing)
    for lane in range(n_lanes):
        lengths[lane] = walk_back(costs[:, lane], from_start[:, lane], label.side, start, goal, paths[lane])
        differing[lane] = label.n_cells + sign_sum(label.sign, paths[lane], lengths[lane])
        total += label.weights[differing[lane]]
        off_path(sample_of(block, lane), label, total)
    paths_around(block, limit, row, label, total)


@lane_function
def sample_of(block, lane):
    """One lane of a block."""
    path = block.paths[lane, : block.lengths[lane]]
    columns = block.costs[:, lane], block.from_start[:, lane], block.to_goal[:, lane]
    return Sample(columns[0], columns[1], columns[2], path, block.differing[lane])


@lane_function
def paths_around(block, limit, row, label, total):
    """Changes of cells on the paths, step by step of all paths; limit, row: scratch as in Workspace."""
    n_lanes, costs, lengths = block.n_lanes, block.costs, block.lengths
    goal, highest = block.goals[0], label.table.max()
    own, cap = np.empty(DISTANCE_LANES, np.int64), np.empty(DISTANCE_LANES, costs.dtype)
    around = np.empty_like(costs)
    for step in range(1, lengths.max() - 1):
        # Lanes whose path is shorter are measured for nothing, but not for long.
        cap[:] = 0
        for lane in range(n_lanes):
            if step < lengths[lane] - 1:
                cell = block.paths[lane, step]
                own[lane] = costs[cell, lane]
                cap[lane] = block.from_start[goal, lane] - own[lane] + highest + 1
                costs[cell, lane] = unreachable(costs)
        measure(Workspace(costs, around, cap, limit, row), block.starts, block.goals)
        for lane in range(n_lanes):
            if step < lengths[lane] - 1:
                costs[block.paths[lane, step], lane] = own[lane]
                if around[goal, lane] < cap[lane]:
                    others = block.from_start[goal, lane] - own[lane]
                    on_path(sample_of(block, lane), around[:, lane], others, step, label, total)


@lane_function
def sign_sum(sign, path, length):
    """What the first cells of a path add to the number of differing cells."""
    result = 0
    for cell in path[:length]:
        result += sign[cell]
    return result


@lane_function
def successors(path, after):
    """after[cell] = the next cell of the path on the way to the start, or UNKNOWN off it."""
    after[:] = UNKNOWN
    for index in range(len(path) - 1):
        after[path[index]] = path[index + 1]
    after[path[-1]] = len(after)


@lane_function
def inner(cell, side):
    """The number of a cell without the border."""
    return (cell // side - 1) * (side - 2) + cell % side - 1


@lane_function
def on_path(sample, around, others, step, label, total):
    """Values of one cell on the path with which the path around it is better.

    around: distances [cells] with the cell blocked; others: what the other cells of the path cost.
    """
    path, weights, table = sample.path, label.weights, label.table
    start, goal = path[-1], path[0]
    other = np.empty(len(sample.costs), np.int64)
    length = walk_back(sample.costs, around, label.side, start, goal, other)
    change = weights[label.n_cells + sign_sum(label.sign, other, length)] - weights[sample.differing]
    first, best = earlier_path(other, path), np.int64(around[goal])
    cell = inner(path[step], label.side)
    for v in range(len(table)):
        if best < others + table[v] or (best == others + table[v] and first):
            total[cell, v] += change


@lane_function
def earlier_path(path, other):
    """Whether the first cell in which two paths from one goal differ has the lower number in the first one."""
    index = 0
    while path[index] == other[index]:
        index += 1
    return path[index] < other[index]


@lane_function
def ways_along(path, sign):
    """The ways of the cells on the path [length]: only its ends know theirs."""
    n, start, goal = len(sign), path[-1], path[0]
    after, parent = np.empty(n, np.int64), np.full(n, UNKNOWN)
    towards_goal, towards_start = np.zeros(n, np.int64), np.zeros(n, np.int64)
    before_path, known = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    successors(path, after)
    parent[goal], towards_goal[goal] = goal, sign[goal]
    known[start], towards_start[start] = True, sign[start]
    return Ways(after, parent, towards_goal, before_path, known, towards_start, np.empty(n, np.int64))


@lane_function
def off_path(sample, label, total):
    """Values of cells off the path with which a path through them is better."""
    costs, from_start, to_goal, path, differing = sample
    sign, n_cells, weights, table, side = label
    ways = ways_along(path, sign)
    best, lowest = np.int64(from_start[path[0]]), table.min()
    for i in range(len(total)):
        cell = (i // (side - 2) + 1) * side + i % (side - 2) + 1
        detour = np.int64(from_start[cell]) + np.int64(to_goal[cell]) - 2 * np.int64(costs[cell])
        if ways.after[cell] != UNKNOWN or detour + lowest > best:
            continue
        way_to_goal(cell, sample, label, ways)
        way_to_start(cell, sample, label, ways)
        change = weights[n_cells + ways.towards_goal[cell] + ways.towards_start[cell] - sign[cell]] - weights[differing]
        for v in range(len(table)):
            through = detour + table[v]
            if through < best or (through == best and ways.before_path[cell]):
                total[i, v] += change


@lane_function
def way_to_start(cell, sample, label, ways):
    """towards_start[cell] = sum of signs from the cell to the start, by the rule of ``walk_back``."""
    costs, from_start, sign, side = sample.costs, sample.from_start, label.sign, label.side
    known, towards_start, stack = ways.known, ways.towards_start, ways.stack
    depth = 0
    while not known[cell]:
        stack[depth] = cell
        depth += 1
        wanted = from_start[cell] - costs[cell]
        for offset in (-side - 1, -side, 1 - side, -1, 1, side - 1, side, side + 1):
            if from_start[cell + offset] == wanted:
                cell += offset
                break
    result = towards_start[cell]
    while depth > 0:
        depth -= 1
        known[stack[depth]] = True
        result += sign[stack[depth]]
        towards_start[stack[depth]] = result


@lane_function
def way_to_goal(cell, sample, label, ways):
    """The same to the goal, of the cheapest ways the first one as seen from the goal: parent[cell] is the next cell.

    before_path[cell]: whether that way leaves the path to the lower side, seen from the goal.
    """
    costs, to_goal, sign, side = sample.costs, sample.to_goal, label.sign, label.side
    after, parent, towards_goal, before_path, _, _, stack = ways
    depth = 1
    stack[0] = cell
    while depth > 0:
        cell = stack[depth - 1]
        wanted = to_goal[cell] - costs[cell]
        chosen, complete = UNKNOWN, True
        for offset in (-side - 1, -side, 1 - side, -1, 1, side - 1, side, side + 1):
            other = cell + offset
            if to_goal[other] == wanted:
                if parent[other] == UNKNOWN:
                    stack[depth] = other
                    depth += 1
                    complete = False
                    break
                if chosen == UNKNOWN or earlier_way(other, chosen, parent, to_goal):
                    chosen = other
        if complete:
            depth -= 1
            parent[cell] = chosen
            towards_goal[cell] = towards_goal[chosen] + sign[cell]
            before_path[cell] = cell < after[chosen] if after[chosen] != UNKNOWN else before_path[chosen]


@lane_function
def earlier_way(cell, other, parent, to_goal):
    """Which of two cells at one distance from the goal has the way there that comes first as seen from the goal."""
    while parent[cell] != parent[other]:
        above, above_other = to_goal[parent[cell]], to_goal[parent[other]]
        if above >= above_other:
            cell = parent[cell]
        if above_other >= above:
            other = parent[other]
    return cell < other
