"""Cheapest paths and samples of them, DISTANCE_LANES maps at a time.

Launch functions as in ``emnesy_gpu.reference.grid_paths``. A block of samples lives in the cache and nowhere else:
draw, distances, path, score, one after the other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox import philox
from emnesy_gpu.kernels.cpu.grid_paths.changes import changes_of_block
from emnesy_gpu.kernels.cpu.grid_paths.sweeps import measure, walk_back

assert DISTANCE_LANES == INTEGER_LANES
U64, MASK = np.uint64, np.uint64(0xFFFFFFFF)
NANOSECONDS_PER_CELL = 3.0


def distance_type(costs: Tensor, height: int, width: int) -> type:
    """uint16 where no path of interest costs more: a king's way anywhere has at most max(height, width) cells."""
    largest = int(costs.max()) if costs.numel() else 0
    return np.uint16 if largest * (max(height, width) + 1) + 1 < np.iinfo(np.uint16).max else np.uint32


def shortest_path(costs: Tensor, start: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 [batch, H, W] and int32 [batch]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, height, width = costs.shape
    mask, total = torch.zeros(costs.shape, dtype=torch.uint8), torch.empty(batch, dtype=torch.int32)
    numbers = np.zeros(1, distance_type(costs, height, width))
    arrays = [tensor.contiguous().numpy() for tensor in (costs, start, goal)] + [mask.numpy(), total.numpy()]

    def work(first: int, last: int) -> None:
        path_rows(numbers, *arrays, first, last)

    for_rows(work, batch, DISTANCE_LANES, height * width * NANOSECONDS_PER_CELL)
    return mask, total


def score(
    thresholds: Tensor,
    costs: Tensor,
    mask: Tensor,
    start: Tensor,
    goal: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> Tensor:
    """int32 [4, batch, n_samples]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, height, width = mask.shape
    scores = torch.empty(4, batch, n_samples, dtype=torch.int32)
    numbers = np.zeros(1, distance_type(costs, height, width))
    arrays = [tensor.contiguous().numpy() for tensor in (thresholds, costs, mask, start, goal)] + [scores.numpy()]

    def work(first: int, last: int) -> None:
        score_rows(numbers, *arrays, first, last, U64(seed), first_row, first_sample)

    for_rows(work, batch, 1, n_samples * height * width * NANOSECONDS_PER_CELL)
    return scores


def histogram(thresholds: Tensor, weights: Tensor, seed: int, first_row: int, first_sample: int) -> Tensor:
    """int64 [batch, N, K]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, n, steps = thresholds.shape
    total = torch.zeros(batch, n, steps + 1, dtype=torch.int64)
    arrays = [tensor.contiguous().numpy() for tensor in (thresholds, weights)] + [total.numpy()]

    def work(first: int, last: int) -> None:
        histogram_rows(*arrays, first, last, U64(seed), first_row, first_sample)

    for_rows(work, batch, 1, weights.shape[1] * n * 1.0)
    return total


def histogram_of_changes(
    thresholds: Tensor,
    costs: Tensor,
    mask: Tensor,
    start: Tensor,
    goal: Tensor,
    weights: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> Tensor:
    """float64 [batch, N, K]: see ``emnesy_gpu.reference.grid_paths``."""
    batch, height, width = mask.shape
    total = torch.zeros(batch, height * width, len(costs), dtype=torch.float64)
    numbers = np.zeros(1, distance_type(costs, height, width))
    tensors = thresholds, costs, mask, start, goal, weights
    arrays = [tensor.contiguous().numpy() for tensor in tensors] + [total.numpy()]

    def work(first: int, last: int) -> None:
        change_rows(numbers, *arrays, n_samples, first, last, U64(seed), first_row, first_sample)

    for_rows(work, batch, 1, n_samples * height * width * 20 * NANOSECONDS_PER_CELL)
    return total


@lane_function
def draw_words(position, first_sample, row, seed, words):
    """Four words less their lowest bit for each sample of a block: int32 [4, lanes]."""
    low, high = row & MASK, row >> U64(32)
    for lane in range(INTEGER_LANES):
        a, b, c, d = philox(U64(position), U64(first_sample + lane), low, high, seed)
        words[0, lane] = a >> U64(1)
        words[1, lane] = b >> U64(1)
        words[2, lane] = c >> U64(1)
        words[3, lane] = d >> U64(1)


@lane_function
def draw_costs(thresholds, table, width, first_sample, row, seed, words, costs):
    """Costs of the cells of sampled maps: [(height + 2) * (width + 2), lanes]."""
    n, steps = thresholds.shape
    for i in range(n):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        word, cost = load(words, i % 4, 0), filled(table[0])
        for v in range(steps):
            cost = where_greater(word, thresholds[i, v], table[v + 1], cost)
        store(costs, (i // width + 1) * (width + 2) + i % width + 1, 0, cost)


@lane_function
def label_costs(costs, mask, lanes):
    """lanes[lane] = cost of the cells on the mask."""
    height, width = mask.shape
    lanes[:] = 0
    for r in range(height):
        for q in range(width):
            if mask[r, q] != 0:
                cell = costs[(r + 1) * (width + 2) + q + 1]
                for lane in range(INTEGER_LANES):
                    lanes[lane] += cell[lane]


@lane_function
def bordered(cell, width):
    """Where a cell of a map is in arrays with a border."""
    return (cell // width + 1) * (width + 2) + cell % width + 1


@lane_function
def scratch(numbers, height, width):
    """Costs, distances [cells, lanes], no cap [lanes], room for a limit [1, lanes] and a row [width, lanes].

    All of the type of ``numbers``.
    """
    shape = ((height + 2) * (width + 2), DISTANCE_LANES)
    costs, d = np.zeros(shape, numbers.dtype), np.empty(shape, numbers.dtype)
    no_cap = np.full(DISTANCE_LANES, numbers.dtype.type(-1))
    limit, row = np.empty((1, DISTANCE_LANES), numbers.dtype), np.empty((width, DISTANCE_LANES), numbers.dtype)
    return costs, d, no_cap, limit, row


@kernel
def score_rows(
    numbers, thresholds, table, mask, start, goal, scores, first, last, seed, first_row, first_sample
):  # fmt: skip
    """Rows first .. last - 1, all samples of a row in turn."""
    _, height, width = mask.shape
    n_samples, side = scores.shape[2], width + 2
    costs, d, cap, limit, cells = scratch(numbers, height, width)
    words, sums = np.empty((4, INTEGER_LANES), np.int32), np.empty(INTEGER_LANES, np.int32)
    path, on_label = np.empty(height * width, np.int64), np.zeros(len(d), np.int32)
    starts, goals = np.empty(DISTANCE_LANES, np.int64), np.empty(DISTANCE_LANES, np.int64)
    for row in range(first, last):
        starts[:], goals[:] = bordered(start[row], width), bordered(goal[row], width)
        for r in range(height):
            for q in range(width):
                on_label[(r + 1) * side + q + 1] = mask[row, r, q]
        for sample in range(0, n_samples, DISTANCE_LANES):
            draw_costs(thresholds[row], table, width, first_sample + sample, U64(first_row + row), seed, words, costs)
            measure(costs, d, height, width, starts, goals, cap, limit, cells)
            label_costs(costs, mask[row], sums)
            for lane in range(min(DISTANCE_LANES, n_samples - sample)):
                length = walk_back(costs[:, lane], d[:, lane], side, starts[0], goals[0], path)
                shared = 0
                for cell in path[:length]:
                    shared += on_label[cell]
                scores[0, row, sample + lane] = shared
                scores[1, row, sample + lane] = length
                scores[2, row, sample + lane] = d[goals[0], lane]
                scores[3, row, sample + lane] = sums[lane]


@kernel
def change_rows(
    numbers, thresholds, table, mask, start, goal, weights, total, n_samples, first, last, seed, first_row, first_sample
):  # fmt: skip
    """Rows first .. last - 1, all samples of a row in turn."""
    _, height, width = mask.shape
    costs = scratch(numbers, height, width)[0]
    words = np.empty((4, INTEGER_LANES), np.int32)
    for row in range(first, last):
        ends = bordered(start[row], width), bordered(goal[row], width)
        for sample in range(0, n_samples, DISTANCE_LANES):
            draw_costs(thresholds[row], table, width, first_sample + sample, U64(first_row + row), seed, words, costs)
            n_lanes = min(DISTANCE_LANES, n_samples - sample)
            changes_of_block(costs, n_lanes, table, mask[row], ends, weights[row], total[row])


@kernel
def path_rows(numbers, all_costs, start, goal, mask, total, first, last):
    """Maps first .. last - 1."""
    _, height, width = all_costs.shape
    costs, d, cap, limit, cells = scratch(numbers, height, width)
    path, side = np.empty(height * width, np.int64), width + 2
    starts, goals = np.empty(DISTANCE_LANES, np.int64), np.empty(DISTANCE_LANES, np.int64)
    rows = np.empty(DISTANCE_LANES, np.int64)
    for block in range(first, last, DISTANCE_LANES):
        for lane in range(DISTANCE_LANES):
            rows[lane] = min(block + lane, last - 1)
            starts[lane], goals[lane] = bordered(start[rows[lane]], width), bordered(goal[rows[lane]], width)
        for r in range(height):
            for q in range(width):
                cell = costs[(r + 1) * side + q + 1]
                for lane in range(DISTANCE_LANES):
                    cell[lane] = all_costs[rows[lane], r, q]
        measure(costs, d, height, width, starts, goals, cap, limit, cells)
        for lane in range(min(DISTANCE_LANES, last - block)):
            total[block + lane] = d[goals[lane], lane]
            length = walk_back(costs[:, lane], d[:, lane], side, starts[lane], goals[lane], path)
            for cell in path[:length]:
                mask[block + lane, cell // side - 1, cell % side - 1] = 1


@kernel
def histogram_rows(thresholds, weights, total, first, last, seed, first_row, first_sample):
    """Rows first .. last - 1; blocks of samples without weight are skipped."""
    n_samples = weights.shape[1]
    words, lanes = np.empty((4, INTEGER_LANES), np.int32), np.zeros((1, INTEGER_LANES), np.int32)
    for row in range(first, last):
        for sample in range(0, n_samples, INTEGER_LANES):
            n_lanes = min(INTEGER_LANES, n_samples - sample)
            lanes[0, :n_lanes] = weights[row, sample : sample + n_lanes]
            lanes[0, n_lanes:] = 0
            if lanes.any():
                add_block(thresholds[row], lanes, first_sample + sample, U64(first_row + row), seed, words, total[row])


@lane_function
def add_block(thresholds, lanes, first_sample, row, seed, words, total):
    """total[i, v] += the weights of the samples of a block whose symbol i has value v."""
    n, steps = thresholds.shape
    for i in range(n):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        word, value, weight = load(words, i % 4, 0), filled(0), load(lanes, 0, 0)
        for v in range(steps):
            value = where_greater(word, thresholds[i, v], np.int32(v + 1), value)
        for v in range(steps + 1):
            total[i, v] += sum_lanes(add_where_equal(filled(0), value, np.int32(v), weight))
