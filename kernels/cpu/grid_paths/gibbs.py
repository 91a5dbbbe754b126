"""Annealed Gibbs chains on maps known by their paths: a lane solves a chain's map with one class in the current cell.

Chains of several rows share a block, so that all lanes are in use. The draws are those of
``emnesy_gpu.inference.gibbs_chains``, to the bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.distance_lanes import DISTANCE_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox import philox_words
from emnesy_gpu.kernels.cpu.grid_paths.maps import NANOSECONDS_PER_CELL, maps_of
from emnesy_gpu.kernels.cpu.grid_paths.sweeps import bordered, empty_workspace, measure, walk_back

F32, U64 = np.float32, np.uint64

ONE = (1 << 24) - 1
"""The largest weight of a cell's classes: weights are integers."""

UNIFORM_BITS = 23
"""Bits of a word that a draw takes."""

UNIT_OF_SUMS = F32(2.0**31)
"""Sums of conditionals are integers in units of one over this."""


class Chains(NamedTuple):
    """What the chains of all rows do."""

    prior: np.ndarray  # float32 [batch, N, K], the largest of a symbol 1
    factors: np.ndarray  # float64 [annealing + 1, N + 1]: by differing cells; the last row for all later sweeps too
    tempered: bool
    sweeps: int
    seed: np.uint64
    first_row: int


class Results(NamedTuple):
    """What the chains of each row have seen."""

    total: np.ndarray  # int64 [batch, N, K]: sums of conditionals
    annealing: np.ndarray  # int64 [batch, chains]: differing cells summed over the sweeps of annealing
    final: np.ndarray  # int64 [batch, chains]: differing cells at the end


class Block(NamedTuple):
    """Chains that run together, a lane for each value of the current cell of each."""

    first_chain: int  # its number among those of all rows
    rows: np.ndarray  # int64 [chains]
    starts: np.ndarray  # int64 [lanes]
    goals: np.ndarray  # int64 [lanes]
    path: np.ndarray  # int64 [N]: scratch
    words: np.ndarray  # uint64 [chains, 4]
    differing: np.ndarray  # int64 [chains, K]: cells that are on path or label, but not on both
    weights: np.ndarray  # int64 [K]: of the values of one cell


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
    total = torch.zeros(batch, n, k, dtype=torch.int64, device="cpu")
    annealing = torch.zeros(batch, chains, dtype=torch.int64, device="cpu")
    final = torch.zeros(batch, chains, dtype=torch.int64, device="cpu")
    priors, of_sweeps = prior.contiguous().numpy(), factors.contiguous().numpy()
    settings = Chains(priors, of_sweeps, tempered, sweeps, U64(seed), first_row)
    maps = maps_of(costs, mask, start, goal)
    results = Results(total.numpy(), annealing.numpy(), final.numpy())

    def work(first: int, last: int) -> None:
        chain_rows(settings, maps, results, first, last)

    work_per_row = chains * sweeps * n * k * height * width * NANOSECONDS_PER_CELL
    for_rows(work, batch, max(1, DISTANCE_LANES // k // chains), work_per_row)
    return total, annealing, final


@lane_function
def count_differing(workspace, mask, block):
    """Cells that are on one only of a row's mask and the path of a lane, into block.differing."""
    costs, d = workspace.costs, workspace.distances
    _, rows, starts, goals, path, _, differing, _ = block
    n_chains, k = differing.shape
    side = mask.shape[2] + 2
    measure(workspace, starts, goals)
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
def draw_words(position, sweep, chains, n_chains, block):
    """Four words for every chain of a block: counter (position, chain of its row and sweep, row)."""
    rows, words = block.rows, block.words
    for chain in range(len(rows)):
        counter = (block.first_chain + chain) % n_chains << 16 | sweep
        words[chain] = philox_words(position, counter, chains.first_row + rows[chain], chains.seed)


@lane_function
def add_conditional(weights, weight, total):
    """Weights [K] over their sum, in units of 2^-31; float32, as PyTorch computes it."""
    scale = UNIT_OF_SUMS * (F32(1.0) / F32(weight))
    for v in range(len(weights)):
        total[v] += np.int64(np.rint(F32(weights[v]) * scale))


@lane_function
def add_counts(block, sums):
    """The differing cells of every chain into sums [batch, chains]."""
    rows, differing = block.rows, block.differing
    for chain in range(len(rows)):
        sums[rows[chain], (block.first_chain + chain) % sums.shape[1]] += differing[chain, 0]


@lane_function
def draw_cell(chains, i, sweep, table, block, cell, total):
    """A new value of cell i in every chain, written to its costs [lanes]; block.differing is known where it counts."""
    k, prior, factors = len(table), chains.prior, chains.factors
    _, rows, _, _, _, words, differing, weights = block
    weighted, of_sweep = chains.tempered and sweep > 0, factors[min(sweep, len(factors) - 1)]
    for chain in range(len(rows)):
        row = rows[chain]
        weight = weigh(prior[row, i], of_sweep, differing[chain], weighted, weights)
        cell[chain * k : chain * k + k] = table[draw_value(weights, weight, words[chain, i % 4])]
        if sweep > chains.sweeps // 2:
            add_conditional(weights, weight, total[row, i])


@lane_function
def run_block(chains, maps, workspace, block, results):
    """All sweeps of the chains of a block."""
    width, k, n_chains = maps.mask.shape[2], len(maps.table), results.annealing.shape[1]
    costs, table, n = workspace.costs, maps.table, chains.prior.shape[1]
    for i in range(n):
        costs[bordered(i, width)] = table[0]
    for sweep in range(chains.sweeps + 1):
        if 0 < sweep <= max(chains.sweeps // 2, 1):
            count_differing(workspace, maps.mask, block)
            add_counts(block, results.annealing)
        for i in range(n):
            cell = costs[bordered(i, width)]
            if i % 4 == 0:
                draw_words(i // 4, sweep, chains, n_chains, block)
            if chains.tempered and sweep > 0:
                for lane in range(DISTANCE_LANES):
                    cell[lane] = table[lane % k]
                count_differing(workspace, maps.mask, block)
            draw_cell(chains, i, sweep, table, block, cell, results.total)
    count_differing(workspace, maps.mask, block)
    add_counts(block, results.final)


@kernel
def chain_rows(chains, maps, results, first, last):
    """Chains of rows first .. last - 1, as many at a time as there are lanes for their values."""
    _, height, width = maps.mask.shape
    n, k = chains.prior.shape[1:]
    n_chains, size = results.annealing.shape[1], DISTANCE_LANES // k
    workspace = empty_workspace(maps.numbers, height, width)
    starts, goals = np.empty(DISTANCE_LANES, np.int64), np.empty(DISTANCE_LANES, np.int64)
    path, weights = np.empty(n, np.int64), np.empty(k, np.int64)
    words, differing = np.empty((size, 4), U64), np.zeros((size, k), np.int64)
    for first_chain in range(first * n_chains, last * n_chains, size):
        rows = np.arange(first_chain, min(first_chain + size, last * n_chains)) // n_chains
        block = Block(first_chain, rows, starts, goals, path, words, differing[: len(rows)], weights)
        for lane in range(DISTANCE_LANES):
            # Lanes without a chain solve the map of the last one, for nothing.
            row = rows[min(lane // k, len(rows) - 1)]
            starts[lane], goals[lane] = bordered(maps.start[row], width), bordered(maps.goal[row], width)
        run_block(chains, maps, workspace, block, results)
