"""Kernels over maps and samples of maps, DISTANCE_LANES of them at a time.

A block of samples lives in the cache and nowhere else: draw, distances, path, score, one after the other.
"""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.distance_lanes import DISTANCE_LANES
from emnesy_gpu.kernels.cpu.common.integer_lanes import (
    INTEGER_LANES,
    add_where_equal,
    filled,
    load,
    store,
    sum_lanes,
    where_greater,
)
from emnesy_gpu.kernels.cpu.common.prior_draws import draw_words_of, values_of
from emnesy_gpu.kernels.cpu.grid_paths.changes import changes_of_block, label_of
from emnesy_gpu.kernels.cpu.grid_paths.sweeps import bordered, empty_workspace, few_workspace, measure, walk_back

# Costs are drawn in integer lanes and measured in distance lanes.
assert DISTANCE_LANES == INTEGER_LANES

draw_words = draw_words_of(INTEGER_LANES)


@lane_function
def draw_costs(workspace, words, thresholds, table, stream):
    """Costs of the cells of sampled maps; words: scratch int32 [4, lanes]; stream: first sample, row, seed."""
    first_sample, row, seed = stream
    width, (n, steps) = len(workspace.row), thresholds.shape
    for i in range(n):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        word, cost = load(words, i % 4, 0), filled(table[0])
        for v in range(steps):
            cost = where_greater(word, thresholds[i, v], table[v + 1], cost)
        store(workspace.costs, bordered(i, width), 0, cost)


@lane_function
def label_costs(costs, mask, lanes):
    """lanes[lane] = cost of the cells on the mask [H, W]."""
    height, width = mask.shape
    lanes[:] = 0
    for r in range(height):
        for q in range(width):
            if mask[r, q] != 0:
                cell = costs[(r + 1) * (width + 2) + q + 1]
                for lane in range(INTEGER_LANES):
                    lanes[lane] += cell[lane]


@lane_function
def put_border(mask, on_label):
    """The cells of a mask [H, W] into an array with a border [cells]."""
    height, width = mask.shape
    for r in range(height):
        for q in range(width):
            on_label[(r + 1) * (width + 2) + q + 1] = mask[r, q]


@kernel
def score_rows(prior, maps, scores, first, last):
    """Rows first .. last - 1 of scores [4, batch, n_samples], all samples of a row in turn.

    Scores are the cells that path and label share, the cells of the path, its cost, and the cost of the label.
    """
    _, height, width = maps.mask.shape
    seed, first_row, first_sample = prior.stream
    workspace = empty_workspace(maps.numbers, height, width)
    costs, d = workspace.costs, workspace.distances
    words, sums = np.empty((4, INTEGER_LANES), np.int32), np.empty(INTEGER_LANES, np.int32)
    path, on_label = np.empty(height * width, np.int64), np.zeros(len(d), np.int32)
    starts, goals = np.empty(DISTANCE_LANES, np.int64), np.empty(DISTANCE_LANES, np.int64)
    for row in range(first, last):
        starts[:], goals[:] = bordered(maps.start[row], width), bordered(maps.goal[row], width)
        put_border(maps.mask[row], on_label)
        for sample in range(0, prior.n_samples, DISTANCE_LANES):
            stream = first_sample + sample, first_row + row, seed
            draw_costs(workspace, words, prior.thresholds[row], maps.table, stream)
            measure(workspace, starts, goals)
            label_costs(costs, maps.mask[row], sums)
            for lane in range(min(DISTANCE_LANES, prior.n_samples - sample)):
                length = walk_back(costs[:, lane], d[:, lane], width + 2, starts[0], goals[0], path)
                shared = 0
                for cell in path[:length]:
                    shared += on_label[cell]
                scores[0, row, sample + lane] = shared
                scores[1, row, sample + lane] = length
                scores[2, row, sample + lane] = d[goals[0], lane]
                scores[3, row, sample + lane] = sums[lane]


@kernel
def change_rows(prior, maps, weights, total, first, last):
    """Rows first .. last - 1 of total [batch, N, K], all samples of a row in turn; weights [batch, differing cells]."""
    _, height, width = maps.mask.shape
    seed, first_row, first_sample = prior.stream
    workspace = empty_workspace(maps.numbers, height, width)
    words = np.empty((4, INTEGER_LANES), np.int32)
    for row in range(first, last):
        label = label_of(maps.mask[row], weights[row], maps.table)
        ends = bordered(maps.start[row], width), bordered(maps.goal[row], width)
        for sample in range(0, prior.n_samples, DISTANCE_LANES):
            stream = first_sample + sample, first_row + row, seed
            draw_costs(workspace, words, prior.thresholds[row], maps.table, stream)
            n_lanes = min(DISTANCE_LANES, prior.n_samples - sample)
            changes_of_block(workspace, n_lanes, ends, label, total[row])


@kernel
def path_rows(numbers, all_costs, start, goal, mask, total, first, last):
    """See ``find_paths``."""
    workspace = empty_workspace(numbers, *all_costs.shape[1:])
    find_paths(workspace, all_costs, (start, goal), mask, total, first, last)


@kernel
def few_path_rows(numbers, all_costs, start, goal, mask, total, first, last):
    """The same for up to FEW_LANES maps."""
    workspace = few_workspace(numbers, *all_costs.shape[1:])
    find_paths(workspace, all_costs, (start, goal), mask, total, first, last)


@lane_function
def find_paths(workspace, all_costs, ends, mask, total, first, last):
    """Maps first .. last - 1 of all_costs [batch, H, W]: their paths into the mask, which is 0, and what they cost."""
    _, height, width = all_costs.shape
    (start, goal), costs, d = ends, workspace.costs, workspace.distances
    path, side, lanes = np.empty(height * width, np.int64), width + 2, costs.shape[1]
    starts, goals, rows = np.empty(lanes, np.int64), np.empty(lanes, np.int64), np.empty(lanes, np.int64)
    for block in range(first, last, lanes):
        for lane in range(lanes):
            rows[lane] = min(block + lane, last - 1)
            starts[lane], goals[lane] = bordered(start[rows[lane]], width), bordered(goal[rows[lane]], width)
        for r in range(height):
            for q in range(width):
                cell = costs[(r + 1) * side + q + 1]
                for lane in range(lanes):
                    cell[lane] = all_costs[rows[lane], r, q]
        measure(workspace, starts, goals)
        for lane in range(min(lanes, last - block)):
            total[block + lane] = d[goals[lane], lane]
            length = walk_back(costs[:, lane], d[:, lane], side, starts[lane], goals[lane], path)
            for cell in path[:length]:
                mask[block + lane, cell // side - 1, cell % side - 1] = 1


@kernel
def histogram_rows(prior, weights, total, first, last):
    """Rows first .. last - 1 of total [batch, N, K]; weights int32 [batch, n_samples].

    Blocks of samples without weight are skipped.
    """
    seed, first_row, first_sample = prior.stream
    words, lanes = np.empty((4, INTEGER_LANES), np.int32), np.zeros((1, INTEGER_LANES), np.int32)
    for row in range(first, last):
        for sample in range(0, prior.n_samples, INTEGER_LANES):
            n_lanes = min(INTEGER_LANES, prior.n_samples - sample)
            lanes[0, :n_lanes] = weights[row, sample : sample + n_lanes]
            lanes[0, n_lanes:] = 0
            if lanes.any():
                stream = first_sample + sample, first_row + row, seed
                add_block(prior.thresholds[row], lanes, stream, words, total[row])


@lane_function
def add_block(thresholds, lanes, stream, words, total):
    """total[i, v] += the weights [1, lanes] of the samples of a block whose symbol i has value v."""
    first_sample, row, seed = stream
    n, steps = thresholds.shape
    for i in range(n):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        value, weight = values_of(load(words, i % 4, 0), thresholds[i]), load(lanes, 0, 0)
        for v in range(steps + 1):
            total[i, v] += sum_lanes(add_where_equal(filled(0), value, np.int32(v), weight))


@kernel
def round_rows(costs, bits, rounded, first, last):
    """Maps first .. last - 1 of float costs [maps, cells] in units of largest / levels, at least 1, whose sum fits.

    Negative costs count as 0, as do all of a map with a NaN, and those that are finite in a map with an infinite one.
    Returns whether there is no such map. bits: the costs as integers, which have the order of positive floats.
    """
    cells, unsound = costs.shape[1], 0
    levels = (2**31 - 1) // cells
    for row in range(first, last):
        place, broken = 0, 0
        for cell in range(cells):
            broken |= costs[row, cell] != costs[row, cell]
        most = bits[row, 0]
        for cell in range(cells):
            most = max(most, bits[row, cell])
        while bits[row, place] != most:
            place += 1
        largest = max(np.float64(costs[row, place]), 0.0)
        unsound += broken or largest == np.inf
        for cell in range(cells):
            share = max(costs[row, cell], 0.0) / largest * levels
            if broken or share != share:
                share = 0.0
            rounded[row, cell] = np.int32(min(max(np.rint(share), 1.0), np.float64(levels)))
    return unsound == 0


@kernel
def cost_rows(table, classes, costs, first, last):
    """costs[row, cell] = table[classes[row, cell]] of rows first .. last - 1; returns whether all classes exist."""
    unknown, n_classes = 0, len(table)
    for row in range(first, last):
        for cell in range(classes.shape[1]):
            value = classes[row, cell]
            known = 0 <= value < n_classes
            unknown |= not known
            costs[row, cell] = table[value if known else 0]
    return not unknown
