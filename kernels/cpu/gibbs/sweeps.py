"""Annealed Gibbs chains draw symbol after symbol given all others: a lane is a chain, whatever row it belongs to.

Value v of symbol i has weight p_i(v) * factor[number of other members of its groups that hold v]. The tables of a block
of lanes, prior, counts and sums of conditionals, stay in the cache; float32 throughout and without contraction to
fused operations, so that the bits are those of ``emnesy_gpu.reference.gibbs``.

A sum of counts says where to look in a table of factors; where the processor has no instruction for that, the bits of
the sum are tested where they lie. The chains of few rows wait for results of the previous symbol: what a symbol needs
of them stays in registers.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common import integer_lanes as integers
from emnesy_gpu.kernels.cpu.common import lanes as floats
from emnesy_gpu.kernels.cpu.common.compile import inlined, table_function
from emnesy_gpu.kernels.cpu.common.philox_lanes import uniform_lanes
from emnesy_gpu.kernels.cpu.gibbs.chains import F32, FEWEST_BITS, FEWEST_POWERS, bits_below, clear

LARGEST_LOG_RATIO = 40.0
"""As in the reference."""

LEAST = F32(math.exp(-LARGEST_LOG_RATIO))
"""No factor is less, so that some value always has a positive weight."""


@inlined
def draw_uniforms(position, sweep, workspace, seed):
    """Four float32 in [0, 1) for every chain: [4, LANES]."""
    found = uniform_lanes(workspace.uniforms, position, workspace.chain, sweep, workspace.row, seed)
    for index in range(4):
        floats.store(workspace.uniforms, index, found[index])


@inlined
def leave(workspace, symbol, memberships, word, words):
    """Take the symbol out of a word of the counts of its groups, and add these up."""
    own, counts = workspace.own, workspace.counts
    held, total = integers.load(own, symbol * words + word, 0), integers.filled_like(own, 0)
    for slot in range(memberships.shape[1]):
        group = memberships[symbol, slot]
        if group >= 0:
            count = integers.subtract(integers.load(counts, group * words + word, 0), held)
            integers.store(counts, group * words + word, 0, count)
            total = integers.add(total, count)
    return total


@inlined
def power_product(weights, conflicts, powers):
    """The factor of n conflicts: the product of those of the powers of two that n is a sum of, and at least LEAST."""
    factor = floats.filled(weights, 1.0)
    for b in range(FEWEST_POWERS):
        factor = integers.multiply_where_bit(factor, conflicts, np.int32(1 << b), powers[b])
    for b in range(FEWEST_POWERS, len(powers)):
        factor = integers.multiply_where_bit(factor, conflicts, np.int32(1 << b), powers[b])
    return floats.maximum(factor, LEAST)


@inlined
def conditional(workspace, symbol, memberships, packing):
    """Weights [K, LANES] of a symbol's values, given all others, and their running sums, of which the last is returned.

    The symbol then counts in none of its groups.
    """
    prior, weights, cumulative = workspace.prior, workspace.weights, workspace.cumulative
    k, running = len(weights), floats.filled(weights, 0.0)
    for word in range(packing.words):
        conflicts = leave(workspace, symbol, memberships, word, packing.words)
        first = word * packing.fields
        for v in range(first, min(first + packing.fields, k)):
            if integers.looks_up() and packing.bits == FEWEST_BITS:
                factor = integers.look_up(weights, workspace.table, conflicts)
            else:
                factor = power_product(weights, conflicts, workspace.powers)
            conflicts = integers.shift_right(conflicts, packing.bits)
            weight = floats.load(prior, symbol * k + v) * factor
            running = running + weight
            floats.store(weights, v, weight)
            floats.store(cumulative, v, running)
    return running


@inlined
def field_of_value(cumulative, threshold, bits):
    """Where the field of the drawn value would begin in one long word.

    The value is the number of running sums, but the last, that the threshold reaches.
    """
    place = integers.filled_like(cumulative, 0)
    for v in range(len(cumulative) - 1):
        place = integers.where_at_most(floats.load(cumulative, v), threshold, integers.add(place, bits), place)
    return place


@inlined
def enter(workspace, symbol, memberships, threshold, packing):
    """Count the symbol under its new value, which the running sums and a threshold say."""
    own, counts, words, used = workspace.own, workspace.counts, packing.words, packing.fields * packing.bits
    place = field_of_value(workspace.cumulative, threshold, packing.bits)
    for word in range(words):
        held = integers.bit_below(integers.subtract(place, word * used), used)
        integers.store(own, symbol * words + word, 0, held)
        for slot in range(memberships.shape[1]):
            group = memberships[symbol, slot]
            if group >= 0:
                count = integers.load(counts, group * words + word, 0)
                integers.store(counts, group * words + word, 0, integers.add(count, held))


@inlined
def add_conditional(weights, cumulative, total, symbol):
    """The conditional distribution of a symbol into the total [N K, LANES]."""
    k = len(weights)
    scale = 1.0 / floats.load(cumulative, k - 1)
    for v in range(k):
        row = symbol * k + v
        floats.store(total, row, floats.load(total, row) + floats.load(weights, v) * scale)


@inlined
def add_conflicts(counts, packing, pairs, conflicts):
    """Pairs of equal members, summed over the groups."""
    total = integers.filled_like(counts, 0)
    for index in range(len(counts)):
        word = integers.load(counts, index, 0)
        for field in range(packing.fields):
            count = integers.field(word, field * packing.bits, packing.bits)
            total = integers.add(total, integers.multiply(count, integers.subtract(count, 1)))
    integers.store(pairs, 0, 0, total)
    for lane in range(pairs.shape[1]):
        conflicts[lane] += pairs[0, lane] >> 1


@table_function
def run_block(chains, workspace):
    """All sweeps of the chains of a block; what the lanes hold that have no chain is not used."""
    total, counts, uniforms, powers = workspace.total, workspace.counts, workspace.uniforms, workspace.powers
    weights, cumulative, pairs, table = workspace.weights, workspace.cumulative, workspace.pairs, workspace.table
    factors, memberships, recorded, packing = chains.factors, chains.memberships, chains.recorded, chains.packing
    n, sweeps = len(memberships), len(factors) - 1
    clear(workspace)
    for sweep in range(sweeps + 1):
        for b in range(bits_below(factors.shape[1])):
            powers[b] = factors[sweep, 1 << b]
        for conflicts in range(min(len(table), factors.shape[1])):
            table[conflicts] = factors[sweep, conflicts]
        if 0 < sweep <= max(sweeps - recorded, 1):
            add_conflicts(counts, packing, pairs, workspace.annealing)
        for i in range(n):
            if i % 4 == 0:
                draw_uniforms(i // 4, sweep, workspace, chains.seed)
            total_weight = conditional(workspace, i, memberships, packing)
            enter(workspace, i, memberships, floats.load(uniforms, i % 4) * total_weight, packing)
            if sweep > sweeps - recorded:
                add_conditional(weights, cumulative, total, i)
    add_conflicts(counts, packing, pairs, workspace.final)
