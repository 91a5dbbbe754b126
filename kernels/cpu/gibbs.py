"""Annealed Gibbs chains: a lane is a chain, whatever row it belongs to.

The tables of a block of lanes, prior, counts and sums of conditionals, stay in the cache; float32 throughout and
without contraction to fused operations, so that the bits are those of ``emnesy_gpu.reference.gibbs``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common import integer_lanes as integers
from emnesy_gpu.kernels.cpu.common import lanes as floats
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.integer_lanes import INTEGER_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox import philox

LANES = INTEGER_LANES
F32, U64, MASK = np.float32, np.uint64, np.uint64(0xFFFFFFFF)
UNIT = F32(2.0**-23)
LEAST = F32(math.exp(-40.0))


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
    annealing = torch.zeros(batch, chains, dtype=torch.int64)
    final = torch.zeros(batch, chains, dtype=torch.int64)
    by_value = prior.view(batch, n * k), factors, memberships, marginals.view(batch, n * k)
    arrays = [tensor.numpy() for tensor in (*by_value, annealing, final)]

    def work(first: int, last: int) -> None:
        run_rows(*arrays, n_groups, first, last, recorded, U64(seed), first_row)

    for_rows(work, batch, max(1, LANES // chains), len(factors) * chains * n * k * 3.0)
    return marginals, annealing, final


@lane_function
def draw_uniforms(position, sweep, chain, row, seed, uniforms):
    """Four float32 in [0, 1) for every lane, the upper 23 bits of the words: [4, LANES]."""
    for lane in range(LANES):
        r = U64(row[lane])
        words = philox(U64(position), U64(chain[lane] << 16 | sweep), r & MASK, r >> U64(32), seed)
        uniforms[0, lane] = F32(np.int32(words[0] >> U64(9))) * UNIT
        uniforms[1, lane] = F32(np.int32(words[1] >> U64(9))) * UNIT
        uniforms[2, lane] = F32(np.int32(words[2] >> U64(9))) * UNIT
        uniforms[3, lane] = F32(np.int32(words[3] >> U64(9))) * UNIT


@lane_function
def conditional(prior, symbol, groups, counts, z, powers, weights, cumulative):
    """Weights [K, LANES] of a symbol's values, given all others, and their running sums.

    The factor of n conflicts is the product of those of the powers of two that n is a sum of, and at least LEAST.
    """
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
def run_block(prior, factors, memberships, chain, row, recorded, seed, z, counts, total, annealing, final):
    """All sweeps of the chains of a block; prior and total [N * K, LANES], counts [G * K, LANES]."""
    n, sweeps = len(memberships), len(factors) - 1
    k = len(prior) // n
    uniforms, weights, cumulative = (np.empty((4, LANES), F32), np.empty((k, LANES), F32), np.empty((k, LANES), F32))
    z[:] = -1
    counts[:] = 0
    total[:] = 0
    annealing[:] = 0
    final[:] = 0
    bits = 0
    while 1 << bits < factors.shape[1]:
        bits += 1
    powers = np.empty(bits, F32)
    for sweep in range(sweeps + 1):
        for b in range(bits):
            powers[b] = factors[sweep, 1 << b]
        if 0 < sweep <= max(sweeps - recorded, 1):
            add_conflicts(counts, annealing)
        for i in range(n):
            if i % 4 == 0:
                draw_uniforms(i // 4, sweep, chain, row, seed, uniforms)
            groups = memberships[i]
            conditional(prior, i, groups, counts, z, powers, weights, cumulative)
            drawn = draw_value(cumulative, uniforms, i % 4)
            move(groups, counts, z, i, drawn, k)
            if sweep > sweeps - recorded:
                add_conditional(weights, cumulative, total, i)
    add_conflicts(counts, final)


@kernel
def run_rows(
    prior, factors, memberships, marginals, annealing, final, n_groups, first, last, recorded, seed, first_row
):
    """Rows first .. last - 1, LANES chains at a time; lanes beyond the last chain repeat it and are dropped.

    prior and marginals [batch, N * K], annealing and final [batch, chains].
    """
    n, size = len(memberships), prior.shape[1]
    chains = annealing.shape[1]
    lanes, total = np.empty((size, LANES), F32), np.empty((size, LANES), F32)
    counts = np.empty((n_groups * (size // n), LANES), np.uint16)
    z = np.empty((n, LANES), np.int32)
    chain, row = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    sums, ends = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for start in range(first * chains, last * chains, LANES):
        n_lanes = min(LANES, last * chains - start)
        for lane in range(LANES):
            index = start + min(lane, n_lanes - 1)
            chain[lane], row[lane] = index % chains, first_row + index // chains
            lanes[:, lane] = prior[index // chains]
        run_block(lanes, factors, memberships, chain, row, recorded, seed, z, counts, total, sums, ends)
        for lane in range(n_lanes):
            index = start + lane
            annealing[index // chains, index % chains] = sums[lane]
            final[index // chains, index % chains] = ends[lane]
            marginals[index // chains] += total[:, lane]
    marginals[first:last] /= F32(chains * recorded)
