"""Annealed Gibbs chains on maps known by their paths: a lane solves a chain's map with one class in the current cell.

Chains of several rows share a block, so that all lanes are in use. The draws are those of
``emnesy_gpu.inference.gibbs_chains``, to the bit.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.distance_lanes import DISTANCE_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox import philox
from emnesy_gpu.kernels.cpu.grid_paths.launch import NANOSECONDS_PER_CELL, bordered, distance_type, scratch
from emnesy_gpu.kernels.cpu.grid_paths.sweeps import measure, walk_back

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
def count_differing(scratch_arrays, starts, goals, rows, mask, path, differing):
    """Cells that are on one only of a row's mask and the path of a lane: differing [chains, values]."""
    costs, d, cap, limit, cells = scratch_arrays
    n_chains, k = differing.shape
    height, width = mask.shape[1:]
    side = width + 2
    measure(costs, d, height, width, starts, goals, cap, limit, cells)
    for chain in range(n_chains):
        label = mask[rows[chain]]
        on_label = label.sum()
        for v in range(k):
            lane = chain * k + v
            count = np.int64(on_label)
            length = walk_back(costs[:, lane], d[:, lane], side, starts[lane], goals[lane], path)
            for cell in path[:length]:
                count += 1 - 2 * np.int64(label[cell // side - 1, cell % side - 1])
            differing[chain, v] = count


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


@lane_function
def draw_words(position, sweep, first_chain, chains, rows, first_row, seed, words):
    """Four words for every chain of a block: counter (position, chain of its row and sweep, row)."""
    for chain in range(len(rows)):
        row = U64(first_row + rows[chain])
        counter = U64((first_chain + chain) % chains << 16 | sweep)
        words[chain] = philox(U64(position), counter, row & MASK, row >> U64(32), seed)


@lane_function
def add_conditional(weights, weight, total):
    """In units of 2^-31; float32, as PyTorch computes it."""
    scale = WORD * (F32(1.0) / F32(weight))
    for v in range(len(weights)):
        total[v] += np.int64(np.rint(F32(weights[v]) * scale))


@lane_function
def add_counts(differing, first_chain, rows, sums):
    for chain in range(len(rows)):
        sums[rows[chain], (first_chain + chain) % sums.shape[1]] += differing[chain, 0]


@kernel
def chain_rows(
    numbers, prior, factors, table, mask, start, goal, total, annealing, final, first, last, sweeps, tempered, seed,
    first_row,
):  # fmt: skip
    """Chains of rows first .. last - 1, as many at a time as there are lanes for their values."""
    _, height, width = mask.shape
    n, k = prior.shape[1:]
    chains, burn_in, block = annealing.shape[1], sweeps // 2, DISTANCE_LANES // k
    arrays = scratch(numbers, height, width)
    costs = arrays[0]
    starts, goals = np.empty(DISTANCE_LANES, np.int64), np.empty(DISTANCE_LANES, np.int64)
    path, weights = np.empty(n, np.int64), np.empty(k, np.int64)
    words, differing = np.empty((block, 4), U64), np.zeros((block, k), np.int64)
    for first_chain in range(first * chains, last * chains, block):
        rows = np.arange(first_chain, min(first_chain + block, last * chains)) // chains
        maps = starts, goals, rows, mask, path, differing[: len(rows)]
        for lane in range(DISTANCE_LANES):
            # Lanes without a chain solve the map of the last one, for nothing.
            row = rows[min(lane // k, len(rows) - 1)]
            starts[lane], goals[lane] = bordered(start[row], width), bordered(goal[row], width)
        for i in range(n):
            costs[bordered(i, width)] = table[0]
        for sweep in range(sweeps + 1):
            if 0 < sweep <= max(burn_in, 1):
                count_differing(arrays, *maps)
                add_counts(differing, first_chain, rows, annealing)
            weighted = tempered and sweep > 0
            for i in range(n):
                cell = costs[bordered(i, width)]
                if i % 4 == 0:
                    draw_words(i // 4, sweep, first_chain, chains, rows, first_row, seed, words)
                if weighted:
                    for lane in range(DISTANCE_LANES):
                        cell[lane] = table[lane % k]
                    count_differing(arrays, *maps)
                for chain in range(len(rows)):
                    row, of_sweep = rows[chain], factors[min(sweep, len(factors) - 1)]
                    weight = weigh(prior[row, i], of_sweep, differing[chain], weighted, weights)
                    cell[chain * k : chain * k + k] = table[draw_value(weights, weight, words[chain, i % 4])]
                    if sweep > burn_in:
                        add_conditional(weights, weight, total[row, i])
        count_differing(arrays, *maps)
        add_counts(differing, first_chain, rows, final)
