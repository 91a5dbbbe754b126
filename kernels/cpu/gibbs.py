"""Annealed Gibbs chains draw symbol after symbol given all others: a lane is a chain, whatever row it belongs to.

Value v of symbol i has weight p_i(v) * factor[number of other members of its groups that hold v]. The tables of a block
of lanes, prior, counts and sums of conditionals, stay in the cache; float32 throughout and without contraction to
fused operations, so that the bits are those of ``emnesy_gpu.reference.gibbs``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common import integer_lanes as integers
from emnesy_gpu.kernels.cpu.common import lanes as floats
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.integer_lanes import INTEGER_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox import philox_words

LANES = INTEGER_LANES
F32, U64 = np.float32, np.uint64
UNIT = F32(2.0**-23)

LEAST = F32(math.exp(-40.0))
"""No factor is less, so that some value always has a positive weight."""


class Chains(NamedTuple):
    """What the chains of all rows do."""

    factors: np.ndarray  # float32 [sweeps + 1, most conflicts + 1]
    memberships: np.ndarray  # int32 [N, most groups of a symbol], padded with -1
    n_groups: int
    recorded: int  # sweeps at the end whose conditionals are summed
    seed: np.uint64
    first_row: int


class Results(NamedTuple):
    """What the chains of each row have seen."""

    marginals: np.ndarray  # float32 [batch, N K]
    annealing: np.ndarray  # int64 [batch, chains]: conflicts summed over the sweeps of annealing
    final: np.ndarray  # int64 [batch, chains]: conflicts at the end


class Workspace(NamedTuple):
    """The scratch arrays of a block of chains, a column per lane."""

    chain: np.ndarray  # int64 [LANES]: its number in its row
    row: np.ndarray  # int64 [LANES]: the number of its row among all
    prior: np.ndarray  # float32 [N K, LANES]
    total: np.ndarray  # float32 [N K, LANES]: sums of conditionals
    z: np.ndarray  # int32 [N, LANES]: values, -1 before the first
    counts: np.ndarray  # uint16 [n_groups K, LANES]: members that hold a value
    uniforms: np.ndarray  # float32 [4, LANES]
    weights: np.ndarray  # float32 [K, LANES]: of the values of one symbol
    cumulative: np.ndarray  # float32 [K, LANES]: their running sums
    annealing: np.ndarray  # int64 [LANES]
    final: np.ndarray  # int64 [LANES]


def run(
    prior: Tensor,
    factors: Tensor,
    memberships: Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, conflicts of annealing and at the end: see ``emnesy_gpu.reference.gibbs``."""
    batch, n, k = prior.shape
    marginals = torch.zeros_like(prior)
    annealing = torch.zeros(batch, chains, dtype=torch.int64, device="cpu")
    final = torch.zeros(batch, chains, dtype=torch.int64, device="cpu")
    priors = prior.view(batch, n * k).numpy()
    settings = Chains(factors.numpy(), memberships.numpy(), n_groups, recorded, U64(seed), first_row)
    results = Results(marginals.view(batch, n * k).numpy(), annealing.numpy(), final.numpy())

    def work(first: int, last: int) -> None:
        run_rows(priors, settings, results, first, last)

    for_rows(work, batch, max(1, LANES // chains), len(factors) * chains * n * k * 3.0)
    return marginals, annealing, final


@lane_function
def draw_uniforms(position, sweep, chain, row, seed, uniforms):
    """Four float32 in [0, 1) for every lane, the upper 23 bits of the words: [4, LANES]."""
    for lane in range(LANES):
        words = philox_words(position, chain[lane] << 16 | sweep, row[lane], seed)
        uniforms[0, lane] = F32(np.int32(words[0] >> U64(9))) * UNIT
        uniforms[1, lane] = F32(np.int32(words[1] >> U64(9))) * UNIT
        uniforms[2, lane] = F32(np.int32(words[2] >> U64(9))) * UNIT
        uniforms[3, lane] = F32(np.int32(words[3] >> U64(9))) * UNIT


@lane_function
def conditional(workspace, symbol, groups, powers):
    """Weights [K, LANES] of a symbol's values, given all others, and their running sums.

    The factor of n conflicts is the product of those of the powers of two that n is a sum of, and at least LEAST.
    """
    prior, counts, z = workspace.prior, workspace.counts, workspace.z
    weights, cumulative = workspace.weights, workspace.cumulative
    k = len(weights)
    degree = 0
    for group in groups:
        degree += group >= 0
    held, running = integers.load(z, symbol, 0), floats.filled(weights, 0.0)
    for v in range(k):
        conflicts = integers.where_equal(held, v, -degree, 0)
        for group in groups:
            if group >= 0:
                conflicts = integers.add(conflicts, integers.load(counts, group * k + v, 0))
        factor = floats.filled(weights, 1.0)
        for b in range(len(powers)):
            factor = integers.multiply_where_bit(factor, conflicts, np.int32(1 << b), powers[b])
        weight = floats.load(prior, symbol * k + v) * floats.maximum(factor, LEAST)
        running = running + weight
        floats.store(weights, v, weight)
        floats.store(cumulative, v, running)


@lane_function
def draw_value(cumulative, uniforms, index):
    """The number of running sums, but the last, that uniform * total reaches."""
    last = len(cumulative) - 1
    threshold = floats.load(uniforms, index) * floats.load(cumulative, last)
    drawn = integers.filled(0)
    for v in range(last):
        drawn = integers.count_at_most(drawn, floats.load(cumulative, v), threshold)
    return drawn


@lane_function
def move(groups, counts, z, symbol, drawn, k):
    """Count the symbol under its new value instead of its old one."""
    held = integers.load(z, symbol, 0)
    for v in range(k):
        change = integers.add_where_equal(integers.where_equal(held, v, -1, 0), drawn, v, 1)
        for group in groups:
            if group >= 0:
                count = integers.load(counts, group * k + v, 0)
                integers.store(counts, group * k + v, 0, integers.add(count, change))
    integers.store(z, symbol, 0, drawn)


@lane_function
def add_conditional(weights, cumulative, total, symbol):
    """The conditional distribution of a symbol into the total [N K, LANES]."""
    k = len(weights)
    scale = 1.0 / floats.load(cumulative, k - 1)
    for v in range(k):
        row = symbol * k + v
        floats.store(total, row, floats.load(total, row) + floats.load(weights, v) * scale)


@lane_function
def add_conflicts(counts, conflicts):
    """Pairs of equal members, summed over the groups."""
    pairs = np.zeros(LANES, np.int32)
    for index in range(len(counts)):
        for lane in range(LANES):
            count = np.int32(counts[index, lane])
            pairs[lane] += count * (count - np.int32(1))
    for lane in range(LANES):
        conflicts[lane] += pairs[lane] >> 1


@lane_function
def run_block(chains, workspace):
    """All sweeps of the chains of a block."""
    chain, row, _, total, z, counts, uniforms, weights, cumulative, annealing, final = workspace
    factors, memberships, _, recorded, seed, _ = chains
    n, sweeps = len(memberships), len(factors) - 1
    z[:] = -1
    counts[:] = 0
    total[:] = 0
    annealing[:] = 0
    final[:] = 0
    powers = np.empty(bits_below(factors.shape[1]), F32)
    for sweep in range(sweeps + 1):
        for b in range(len(powers)):
            powers[b] = factors[sweep, 1 << b]
        if 0 < sweep <= max(sweeps - recorded, 1):
            add_conflicts(counts, annealing)
        for i in range(n):
            if i % 4 == 0:
                draw_uniforms(i // 4, sweep, chain, row, seed, uniforms)
            groups = memberships[i]
            conditional(workspace, i, groups, powers)
            drawn = draw_value(cumulative, uniforms, i % 4)
            move(groups, counts, z, i, drawn, len(weights))
            if sweep > sweeps - recorded:
                add_conditional(weights, cumulative, total, i)
    add_conflicts(counts, final)


@lane_function
def bits_below(number):
    """How many bits the numbers below a number have."""
    bits = 0
    while 1 << bits < number:
        bits += 1
    return bits


@lane_function
def empty_workspace(n, k, n_groups):
    """Uninitialised, for n symbols of k values."""
    return Workspace(
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
        np.empty((n * k, LANES), F32),
        np.empty((n * k, LANES), F32),
        np.empty((n, LANES), np.int32),
        np.empty((n_groups * k, LANES), np.uint16),
        np.empty((4, LANES), F32),
        np.empty((k, LANES), F32),
        np.empty((k, LANES), F32),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
    )


@kernel
def run_rows(prior, chains, results, first, last):
    """Rows first .. last - 1 of the prior [batch, N K], LANES chains at a time.

    Lanes beyond the last chain repeat it and are dropped.
    """
    n, n_chains = len(chains.memberships), results.annealing.shape[1]
    workspace = empty_workspace(n, prior.shape[1] // n, chains.n_groups)
    for start in range(first * n_chains, last * n_chains, LANES):
        n_lanes = min(LANES, last * n_chains - start)
        for lane in range(LANES):
            index = start + min(lane, n_lanes - 1)
            workspace.chain[lane], workspace.row[lane] = index % n_chains, chains.first_row + index // n_chains
            workspace.prior[:, lane] = prior[index // n_chains]
        run_block(chains, workspace)
        for lane in range(n_lanes):
            row, chain = (start + lane) // n_chains, (start + lane) % n_chains
            results.annealing[row, chain] = workspace.annealing[lane]
            results.final[row, chain] = workspace.final[lane]
            results.marginals[row] += workspace.total[:, lane]
    results.marginals[first:last] /= F32(n_chains * chains.recorded)
