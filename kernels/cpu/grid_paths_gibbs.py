"""Annealed Gibbs chains on maps known by their paths: a lane solves a chain's map with one class in the current cell.

Chains of several rows share a block, so that all lanes are in use. The draws are those of
``emnesy_gpu.problems.single_site``, to the bit.
"""

from __future__ import annotations

import numpy as np
import torch
from emnesy_gpu.kernels.cpu.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.grid_paths import NANOSECONDS_PER_CELL, bordered, distance_type, scratch
from emnesy_gpu.kernels.cpu.grid_paths_lanes import DISTANCE_LANES
from emnesy_gpu.kernels.cpu.grid_paths_sweeps import measure, walk_back
from emnesy_gpu.kernels.cpu.parallel import for_rows
from emnesy_gpu.kernels.cpu.philox import philox
from torch import Tensor

F32, U64, MASK = np.float32, np.uint64, np.uint64(0xFFFFFFFF)
ONE, UNIFORM_BITS, WORD = (1 << 24) - 1, 23, F32(2.0**31)


def run_chains(
    prior: Tensor,
    factors: Tensor,
    costs: Tensor,
    mask: Tensor,
    start: Tensor,
    goal: Tensor,
    tempered: bool,
    chains: int,
    sweeps: int,
    seed: int,
    first_row: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of conditionals int64 [batch, N, K]; differing cells summed over annealing, and at the end [batch, chains].

    prior: float32 [batch, N, K], the largest of a symbol 1. factors: float64 [annealing + 1, N + 1], a row a sweep, the
    last one for all later sweeps too; of use only where ``tempered``, and never for sweep 0. mask: uint8 [batch, H, W].
    """
    batch, height, width = mask.shape
    n, k = prior.shape[1:]
    total = torch.zeros(batch, n, k, dtype=torch.int64)
    annealing = torch.zeros(batch, chains, dtype=torch.int64)
    final = torch.zeros(batch, chains, dtype=torch.int64)
    numbers = np.zeros(1, distance_type(costs, height, width))
    tensors = prior, factors, costs, mask, start, goal, total, annealing, final
    arrays = [tensor.contiguous().numpy() for tensor in tensors]

    def work(first: int, last: int) -> None:
        chain_rows(numbers, *arrays, first, last, sweeps, tempered, U64(seed), first_row)

    work_per_row = chains * sweeps * n * k * height * width * NANOSECONDS_PER_CELL
    for_rows(work, batch, max(1, DISTANCE_LANES // k // chains), work_per_row)
    return total, annealing, final


@lane_function
def count_differing(costs, d, side, ends, mask, signs, path):
    """Cells that are on one only of the mask and the path of a lane (costs, d are [cells])."""
    length = walk_back(costs, d, side, ends[0], ends[1], path)
    differing = signs
    for cell in path[:length]:
        differing += 1 - 2 * np.int64(mask[cell // side - 1, cell % side - 1])
    return differing


@lane_function
def weigh(prior, factors, differing, tempered, weights):
    """Weights of a cell's classes, rounded to integers of which the largest is ONE, and their sum."""
    k, total = len(prior), 0
    if tempered:
        largest = 0.0
        for v in range(k):
            largest = max(largest, np.float64(prior[v]) * factors[differing[v]])
        for v in range(k):
            weights[v] = np.int64(np.rint(np.float64(prior[v]) * factors[differing[v]] / largest * np.float64(ONE)))
            total += weights[v]
    else:
        for v in range(k):
            weights[v] = np.int64(np.rint(prior[v] * F32(ONE)))
            total += weights[v]
    return total


@lane_function
def draw_value(weights, total, word):
    """The number of running sums, but the last, that the upper bits of a word reach as a share of the total."""
    threshold = (np.int64(word >> U64(32 - UNIFORM_BITS)) * total) >> UNIFORM_BITS
    running, drawn = 0, 0
    for v in range(len(weights) - 1):
        running += weights[v]
        drawn += running <= threshold
    return drawn


@kernel
def chain_rows(
    numbers, prior, factors, table, mask, start, goal, total, annealing, final, first, last, sweeps, tempered, seed,
    first_row,
):  # fmt: skip
    """Chains of rows first .. last - 1; lanes without a chain of their own repeat the last one."""
    _, height, width = mask.shape
    n, k = prior.shape[1:]
    chains, side, burn_in = annealing.shape[1], width + 2, sweeps // 2
    costs, d, cap, limit, cells = scratch(numbers, height, width)
    n_units = DISTANCE_LANES // k
    rows, words = np.empty(n_units, np.int64), np.empty((n_units, 4), U64)
    starts, goals = np.empty(DISTANCE_LANES, np.int64), np.empty(DISTANCE_LANES, np.int64)
    path, differing, weights = np.empty(n, np.int64), np.empty(k, np.int64), np.empty(k, np.int64)
    signs = np.empty(n_units, np.int64)
    for block in range(first * chains, last * chains, n_units):
        used = min(n_units, last * chains - block)
        for unit in range(n_units):
            rows[unit] = (block + min(unit, used - 1)) // chains
            signs[unit] = mask[rows[unit]].sum()
        for lane in range(DISTANCE_LANES):
            row = rows[min(lane // k, n_units - 1)]
            starts[lane], goals[lane] = bordered(start[row], width), bordered(goal[row], width)
        for r in range(height):
            costs[(r + 1) * side + 1 : (r + 1) * side + 1 + width] = table[0]
        for sweep in range(sweeps + 2):
            if 0 < sweep <= max(burn_in, 1) or sweep > sweeps:
                sums = annealing if sweep <= sweeps else final
                measure(costs, d, height, width, starts, goals, cap, limit, cells)
                for unit in range(used):
                    lane, row = unit * k, rows[unit]
                    ends = starts[lane], goals[lane]
                    sums[row, (block + unit) % chains] += count_differing(
                        costs[:, lane], d[:, lane], side, ends, mask[row], signs[unit], path
                    )
            if sweep > sweeps:
                break
            weighted = tempered and sweep > 0
            for i in range(n):
                cell = bordered(i, width)
                if i % 4 == 0:
                    for unit in range(used):
                        counter, row = U64((block + unit) % chains << 16 | sweep), U64(first_row + rows[unit])
                        words[unit] = philox(U64(i // 4), counter, row & MASK, row >> U64(32), seed)
                if weighted:
                    for lane in range(DISTANCE_LANES):
                        costs[cell, lane] = table[lane % k]
                    measure(costs, d, height, width, starts, goals, cap, limit, cells)
                for unit in range(used):
                    row = rows[unit]
                    if weighted:
                        for v in range(k):
                            lane = unit * k + v
                            differing[v] = count_differing(
                                costs[:, lane],
                                d[:, lane],
                                side,
                                (starts[lane], goals[lane]),
                                mask[row],
                                signs[unit],
                                path,
                            )
                    weight = weigh(prior[row, i], factors[min(sweep, len(factors) - 1)], differing, weighted, weights)
                    drawn = draw_value(weights, weight, words[unit, i % 4])
                    costs[cell, unit * k : unit * k + k] = table[drawn]
                    if sweep > burn_in:
                        scale = WORD * (F32(1.0) / F32(weight))
                        for v in range(k):
                            total[row, i, v] += np.int64(np.rint(F32(weights[v]) * scale))
                if weighted:
                    costs[cell, used * k :] = table[0]
