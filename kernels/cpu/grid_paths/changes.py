"""What the cheapest path of a map becomes when a single cell changes, for every cell and every cost, exactly.

A cell off the path takes it over once the cheapest path through the cell is better; a cell on the path loses it once
the cheapest path around the cell is. The former follows from distances to both ends, the latter is measured with the
cell blocked. Paths of equal cost are told apart by the first step in which they differ, seen from the goal: the cell
that comes first in reading order wins, which has the lower number.
"""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.distance_lanes import DISTANCE_LANES
from emnesy_gpu.kernels.cpu.grid_paths.sweeps import measure, walk_back

UNKNOWN = -1


@lane_function
def changes_of_block(costs, n_lanes, table, mask, ends, weights, total):
    """total[i, v] += weights[cells that differ from the mask after cell i is given cost table[v]], for every lane.

    costs: [(height + 2) * (width + 2), lanes]; ends: the cells of start and goal there.
    """
    height, width = mask.shape
    n = len(total)
    side, (start, goal) = width + 2, ends
    sign, n_label = signs(mask)
    limit, row = np.empty((1, DISTANCE_LANES), costs.dtype), np.empty((width, DISTANCE_LANES), costs.dtype)
    from_start, to_goal, around = np.empty_like(costs), np.empty_like(costs), np.empty_like(costs)
    starts, goals = np.full(DISTANCE_LANES, start), np.full(DISTANCE_LANES, goal)
    everywhere, cap = np.zeros(DISTANCE_LANES, np.int64), np.full(DISTANCE_LANES, costs.dtype.type(-1))
    measure(costs, from_start, height, width, starts, everywhere, cap, limit, row)
    measure(costs, to_goal, height, width, goals, everywhere, cap, limit, row)

    paths, lengths = np.empty((DISTANCE_LANES, n), np.int64), np.zeros(DISTANCE_LANES, np.int64)
    differing = np.zeros(DISTANCE_LANES, np.int64)
    after = np.empty(len(costs), np.int64)
    for lane in range(n_lanes):
        lengths[lane] = walk_back(costs[:, lane], from_start[:, lane], side, start, goal, paths[lane])
        differing[lane] = n_label + sign_sum(sign, paths[lane], lengths[lane])
        path = paths[lane, : lengths[lane]]
        successors(path, after)
        total += weights[differing[lane]]
        off_path(
            costs[:, lane], from_start[:, lane], to_goal[:, lane], sign, path, after, side,
            n_label, weights, differing[lane], table, total,
        )  # fmt: skip

    own, highest = np.empty(DISTANCE_LANES, np.int64), table.max()
    for step in range(1, lengths.max() - 1):
        # Lanes whose path is shorter are measured for nothing, but not for long.
        cap[:] = 0
        for lane in range(n_lanes):
            if step < lengths[lane] - 1:
                cell = paths[lane, step]
                own[lane] = costs[cell, lane]
                cap[lane] = from_start[goal, lane] - own[lane] + highest + 1
                costs[cell, lane] = costs.dtype.type(-1)
        measure(costs, around, height, width, starts, goals, cap, limit, row)
        for lane in range(n_lanes):
            if step < lengths[lane] - 1:
                costs[paths[lane, step], lane] = own[lane]
                if around[goal, lane] < cap[lane]:
                    on_path(
                        costs[:, lane], around[:, lane], from_start[goal, lane] - own[lane], sign,
                        paths[lane, : lengths[lane]], step, side, n_label, weights, differing[lane], table, total,
                    )  # fmt: skip


@lane_function
def signs(mask):
    """What a cell with a border adds to the number of differing cells when a path takes it, and the label's cells."""
    height, width = mask.shape
    sign = np.ones((height + 2) * (width + 2), np.int64)
    n_label = 0
    for r in range(height):
        for q in range(width):
            if mask[r, q] != 0:
                sign[(r + 1) * (width + 2) + q + 1] = -1
                n_label += 1
    return sign, n_label


@lane_function
def sign_sum(sign, path, length):
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
def on_path(costs, around, others, sign, path, step, side, n_label, weights, differing, table, total):
    """Values of one cell on the path with which the path around it is better; others: what its other cells cost."""
    start, goal = path[-1], path[0]
    other = np.empty(len(costs), np.int64)
    length = walk_back(costs, around, side, start, goal, other)
    change = weights[n_label + sign_sum(sign, other, length)] - weights[differing]
    first, best = earlier_path(other, path), np.int64(around[goal])
    cell = inner(path[step], side)
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
def off_path(
    costs, from_start, to_goal, sign, path, after, side, n_label, weights, differing, table, total
):  # fmt: skip
    """Values of cells off the path with which a path through them is better."""
    start, goal = path[-1], path[0]
    best, lowest = np.int64(from_start[goal]), table.min()
    parent = np.full(len(costs), UNKNOWN)
    towards_goal, towards_start = np.zeros(len(costs), np.int64), np.zeros(len(costs), np.int64)
    before_path, stack = np.zeros(len(costs), np.bool_), np.empty(len(costs), np.int64)
    known = np.zeros(len(costs), np.bool_)
    parent[goal], towards_goal[goal] = goal, sign[goal]
    known[start], towards_start[start] = True, sign[start]
    for i in range(len(total)):
        cell = (i // (side - 2) + 1) * side + i % (side - 2) + 1
        detour = np.int64(from_start[cell]) + np.int64(to_goal[cell]) - 2 * np.int64(costs[cell])
        if after[cell] != UNKNOWN or detour + lowest > best:
            continue
        way_to_goal(cell, costs, to_goal, sign, after, side, parent, towards_goal, before_path, stack)
        way_to_start(cell, costs, from_start, sign, side, known, towards_start, stack)
        change = weights[n_label + towards_goal[cell] + towards_start[cell] - sign[cell]] - weights[differing]
        for v in range(len(table)):
            through = detour + table[v]
            if through < best or (through == best and before_path[cell]):
                total[i, v] += change


@lane_function
def way_to_start(cell, costs, from_start, sign, side, known, towards_start, stack):
    """towards_start[cell] = sum of signs from the cell to the start, by the rule of ``walk_back``."""
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
def way_to_goal(cell, costs, to_goal, sign, after, side, parent, towards_goal, before_path, stack):
    """The same to the goal, of the cheapest ways the first one as seen from the goal: parent[cell] is the next cell.

    before_path[cell]: whether that way leaves the path to the lower side, seen from the goal.
    """
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
