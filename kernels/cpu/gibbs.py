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
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, lane_function, table_function
from emnesy_gpu.kernels.cpu.common.integer_lanes import INTEGER_LANES
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox import philox_words
from emnesy_gpu.kernels.cpu.common.row_driver import result_dtype
from emnesy_gpu.kernels.cpu.common.symbol_rows import row_status
from emnesy_gpu.kernels.status import POSSIBLE

LANES = INTEGER_LANES
F32, U64 = np.float32, np.uint64
UNIT = F32(2.0**-23)

LARGEST_LOG_RATIO = 40.0
"""As in the reference."""

LEAST = F32(math.exp(-LARGEST_LOG_RATIO))
"""No factor is less, so that some value always has a positive weight."""


NANOSECONDS_PER_LOGIT = 10.0


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
    """The scratch arrays of a block of chains, a column per lane: LANES, or views of half of them."""

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
    pairs: np.ndarray  # int32 [LANES]
    powers: np.ndarray  # float32: factors of 1, 2, 4, ... conflicts in a sweep


def prior(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The relative prior and the status of each row: see ``emnesy_gpu.reference.gibbs``."""
    taken = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    symbols, labels = taken.detach().numpy(), label.numpy()
    relative, status = np.empty(symbols.shape, F32), np.empty(len(symbols), np.uint8)
    cost = NANOSECONDS_PER_LOGIT * logits.shape[1:].numel()
    for_rows(lambda first, last: prior_rows(symbols, labels, relative, status, first, last), len(status), 1, cost)
    return torch.from_numpy(relative), torch.from_numpy(status)


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
    marginals = np.zeros((batch, n * k), F32)
    annealing, final = np.zeros((batch, chains), np.int64), np.zeros((batch, chains), np.int64)
    priors = prior.numpy().reshape(batch, n * k)
    settings = Chains(factors.numpy(), memberships.numpy(), n_groups, recorded, U64(seed), first_row)
    results = Results(marginals, annealing, final)

    on_rows = run_few_rows if batch * chains <= LANES // 2 else run_rows

    def work(first: int, last: int) -> None:
        on_rows(priors, settings, results, first, last)

    for_rows(work, batch, max(1, LANES // chains), len(factors) * chains * n * k * 3.0)
    return torch.from_numpy(marginals).view(prior.shape), torch.from_numpy(annealing), torch.from_numpy(final)


@kernel
def prior_rows(logits, label, relative, status, first, last):
    """Rows first .. last - 1 of logits [batch, N, K]; a symbol with a NaN gets 1 for all values."""
    _, n, k = logits.shape
    for row in range(first, last):
        status[row] = row_status(logits[row], label[row])
        for i in range(n):
            largest, broken = -np.inf, False
            for v in range(k):
                value = np.float64(logits[row, i, v])
                largest, broken = max(largest, value), broken or value != value
            for v in range(k):
                difference = np.float64(logits[row, i, v]) - largest
                # Infinite ones less themselves are NaN.
                if broken or difference != difference:
                    relative[row, i, v] = 1.0
                else:
                    relative[row, i, v] = math.exp(difference) if difference >= -LARGEST_LOG_RATIO else 0.0


@inlined
def draw_uniforms(position, sweep, workspace, seed, n_lanes):
    """Four float32 in [0, 1) for every chain, the upper 23 bits of the words: [4, LANES]."""
    chain, row, uniforms = workspace.chain, workspace.row, workspace.uniforms
    for lane in range(n_lanes):
        words = philox_words(position, chain[lane] << 16 | sweep, row[lane], seed)
        uniforms[0, lane] = F32(np.int32(words[0] >> U64(9))) * UNIT
        uniforms[1, lane] = F32(np.int32(words[1] >> U64(9))) * UNIT
        uniforms[2, lane] = F32(np.int32(words[2] >> U64(9))) * UNIT
        uniforms[3, lane] = F32(np.int32(words[3] >> U64(9))) * UNIT


@inlined
def conditional(workspace, symbol, memberships, powers):
    """Weights [K, LANES] of a symbol's values, given all others, and their running sums.

    The factor of n conflicts is the product of those of the powers of two that n is a sum of, and at least LEAST.
    """
    prior, counts, z = workspace.prior, workspace.counts, workspace.z
    weights, cumulative = workspace.weights, workspace.cumulative
    k = len(weights)
    degree = 0
    for slot in range(memberships.shape[1]):
        degree += memberships[symbol, slot] >= 0
    held, running = integers.load(z, symbol, 0), floats.filled(weights, 0.0)
    for v in range(k):
        conflicts = integers.where_equal(held, v, -degree, 0)
        for slot in range(memberships.shape[1]):
            group = memberships[symbol, slot]
            if group >= 0:
                conflicts = integers.add(conflicts, integers.load(counts, group * k + v, 0))
        factor = floats.filled(weights, 1.0)
        for b in range(len(powers)):
            factor = integers.multiply_where_bit(factor, conflicts, np.int32(1 << b), powers[b])
        weight = floats.load(prior, symbol * k + v) * floats.maximum(factor, LEAST)
        running = running + weight
        floats.store(weights, v, weight)
        floats.store(cumulative, v, running)


@inlined
def draw_value(cumulative, uniforms, index):
    """The number of running sums, but the last, that uniform * total reaches."""
    last = len(cumulative) - 1
    threshold = floats.load(uniforms, index) * floats.load(cumulative, last)
    drawn = integers.zeros_like(threshold)
    for v in range(last):
        drawn = integers.count_at_most(drawn, floats.load(cumulative, v), threshold)
    return drawn


@inlined
def move(memberships, counts, z, symbol, drawn, k):
    """Count the symbol under its new value instead of its old one."""
    held = integers.load(z, symbol, 0)
    for v in range(k):
        change = integers.add_where_equal(integers.where_equal(held, v, -1, 0), drawn, v, 1)
        for slot in range(memberships.shape[1]):
            group = memberships[symbol, slot]
            if group >= 0:
                count = integers.load(counts, group * k + v, 0)
                integers.store(counts, group * k + v, 0, integers.add(count, change))
    integers.store(z, symbol, 0, drawn)


@inlined
def add_conditional(weights, cumulative, total, symbol):
    """The conditional distribution of a symbol into the total [N K, LANES]."""
    k = len(weights)
    scale = 1.0 / floats.load(cumulative, k - 1)
    for v in range(k):
        row = symbol * k + v
        floats.store(total, row, floats.load(total, row) + floats.load(weights, v) * scale)


@inlined
def add_conflicts(counts, pairs, conflicts, n_lanes):
    """Pairs of equal members, summed over the groups."""
    for lane in range(n_lanes):
        pairs[lane] = 0
    for index in range(len(counts)):
        for lane in range(n_lanes):
            count = np.int32(counts[index, lane])
            pairs[lane] += count * (count - np.int32(1))
    for lane in range(n_lanes):
        conflicts[lane] += pairs[lane] >> 1


@table_function
def run_block(chains, workspace, n_lanes):
    """All sweeps of the chains of a block, in its first lanes; what the others hold is not used."""
    _, _, _, total, z, counts, uniforms, weights, cumulative, annealing, final, pairs, powers = workspace
    factors, memberships, recorded = chains.factors, chains.memberships, chains.recorded
    n, sweeps = len(memberships), len(factors) - 1
    clear(workspace)
    for sweep in range(sweeps + 1):
        for b in range(len(powers)):
            powers[b] = factors[sweep, 1 << b]
        if 0 < sweep <= max(sweeps - recorded, 1):
            add_conflicts(counts, pairs, annealing, n_lanes)
        for i in range(n):
            if i % 4 == 0:
                draw_uniforms(i // 4, sweep, workspace, chains.seed, n_lanes)
            conditional(workspace, i, memberships, powers)
            drawn = draw_value(cumulative, uniforms, i % 4)
            move(memberships, counts, z, i, drawn, len(weights))
            if sweep > sweeps - recorded:
                add_conditional(weights, cumulative, total, i)
    add_conflicts(counts, pairs, final, n_lanes)


@inlined
def clear(workspace):
    """No symbol has a value yet, and nothing is summed."""
    for index in range(len(workspace.z)):
        integers.store(workspace.z, index, 0, integers.filled_like(workspace.z, -1))
    for index in range(len(workspace.counts)):
        integers.store(workspace.counts, index, 0, integers.filled_like(workspace.z, 0))
    for index in range(len(workspace.total)):
        floats.store(workspace.total, index, 0.0)
    for index in range(4):
        floats.store(workspace.uniforms, index, 0.0)
    for lane in range(len(workspace.annealing)):
        workspace.annealing[lane] = workspace.final[lane] = 0


@lane_function
def bits_below(number):
    """How many bits the numbers below a number have."""
    bits = 0
    while 1 << bits < number:
        bits += 1
    return bits


@lane_function
def empty_workspace(n, k, chains):
    """Uninitialised, for n symbols of k values."""
    n_groups, powers = chains.n_groups, bits_below(chains.factors.shape[1])
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
        np.empty(LANES, np.int32),
        np.empty(powers, F32),
    )


def results(
    logits: Tensor, sums: Tensor, annealing: Tensor, final: Tensor, step: float, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log evidence and the share of chains without a conflict: see ``emnesy_gpu.reference.gibbs``."""
    dtype = result_dtype(logits)
    marginals = np.empty(sums.shape, dtype)
    log_evidence, satisfied = np.empty(len(sums), dtype), np.empty(len(sums), dtype)
    result_rows(sums.numpy(), annealing.numpy(), final.numpy(), step, marginals, log_evidence, satisfied)
    found = torch.from_numpy(marginals), torch.from_numpy(log_evidence), torch.from_numpy(satisfied)
    if int(status.numpy().max(initial=0)) > POSSIBLE:
        broken = status > POSSIBLE
        found[0][broken] = logits.detach()[broken].to(found[0].dtype).softmax(-1)
        found[1][broken] = -math.inf
    return found


@kernel
def result_rows(sums, annealing, final, step, marginals, log_evidence, satisfied):
    """All rows of the results; nothing here depends on other rows."""
    batch, n, k = sums.shape
    chains = annealing.shape[1]
    for row in range(batch):
        for i in range(n):
            total = 0.0
            for v in range(k):
                total += np.float64(sums[row, i, v])
            for v in range(k):
                marginals[row, i, v] = np.float64(sums[row, i, v]) / total
        least = annealing[row].min()
        total = 0.0
        for chain in range(chains):
            total += math.exp(-step * (annealing[row, chain] - least))
        log_evidence[row] = math.log(total) - step * least - math.log(chains)
        satisfied[row] = np.count_nonzero(final[row] == 0) / chains


@lane_function
def half_of(work):
    """The same with half as many lanes."""
    half = LANES // 2
    numbers = work.prior[:, :half], work.total[:, :half], work.z[:, :half], work.counts[:, :half]
    weights = work.uniforms[:, :half], work.weights[:, :half], work.cumulative[:, :half]
    return Workspace(work.chain, work.row, *numbers, *weights, work.annealing, work.final, work.pairs, work.powers)


@lane_function
def read_priors(prior, first_chain, n_chains, workspace, n_lanes):
    """The priors of the rows of the chains of a block; lanes to spare get that of the last chain."""
    lanes = workspace.prior.shape[1]
    first, last = first_chain // n_chains, (first_chain + n_lanes - 1) // n_chains
    if first == last:
        for index in range(prior.shape[1]):
            floats.store(workspace.prior, index, prior[first, index])
        return
    for lane in range(lanes):
        workspace.prior[:, lane] = prior[(first_chain + min(lane, n_lanes - 1)) // n_chains]


@lane_function
def run_blocks(prior, chains, results, first, last, workspace):
    """Rows first .. last - 1 of the prior [batch, N K], as many chains at a time as there are lanes."""
    n_chains, lanes = results.annealing.shape[1], workspace.prior.shape[1]
    for start in range(first * n_chains, last * n_chains, lanes):
        n_lanes = min(lanes, last * n_chains - start)
        for lane in range(n_lanes):
            index = start + lane
            workspace.chain[lane], workspace.row[lane] = index % n_chains, chains.first_row + index // n_chains
        read_priors(prior, start, n_chains, workspace, n_lanes)
        run_block(chains, workspace, n_lanes)
        for lane in range(n_lanes):
            row, chain = (start + lane) // n_chains, (start + lane) % n_chains
            results.annealing[row, chain] = workspace.annealing[lane]
            results.final[row, chain] = workspace.final[lane]
            results.marginals[row] += workspace.total[:, lane]
    results.marginals[first:last] /= F32(n_chains * chains.recorded)


@kernel
def run_rows(prior, chains, results, first, last):
    """See ``run_blocks``."""
    n = len(chains.memberships)
    run_blocks(prior, chains, results, first, last, empty_workspace(n, prior.shape[1] // n, chains))


@kernel
def run_few_rows(prior, chains, results, first, last):
    """The same for chains that fit in half the lanes."""
    n = len(chains.memberships)
    run_blocks(prior, chains, results, first, last, half_of(empty_workspace(n, prior.shape[1] // n, chains)))
