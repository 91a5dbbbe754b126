"""Annealed Gibbs chains draw symbol after symbol given all others: a lane is a chain, whatever row it belongs to.

Value v of symbol i has weight p_i(v) * factor[number of other members of its groups that hold v]. The tables of a block
of lanes, prior, counts and sums of conditionals, stay in the cache; float32 throughout and without contraction to
fused operations, so that the bits are those of ``emnesy_gpu.reference.gibbs``.

The members of a group that hold each value are counted in fields of few words, so that one addition counts for several
values, and a bit of a sum of counts is tested where it lies. The value of a symbol is a 1 in its field.
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
from emnesy_gpu.kernels.cpu.common.philox_lanes import uniform_lanes
from emnesy_gpu.kernels.cpu.common.row_driver import result_dtype
from emnesy_gpu.kernels.cpu.common.symbol_rows import row_status
from emnesy_gpu.kernels.status import POSSIBLE

LANES = INTEGER_LANES
F32, U64 = np.float32, np.uint64

FEWEST_POWERS = 5
"""So many are multiplied in a loop of known length, which has no branches."""

WORD_BITS = 31
"""Of an int32 that is not negative."""

LARGEST_LOG_RATIO = 40.0
"""As in the reference."""

LEAST = F32(math.exp(-LARGEST_LOG_RATIO))
"""No factor is less, so that some value always has a positive weight."""


NANOSECONDS_PER_LOGIT, NANOSECONDS_PER_VALUE = 10.0, 1.5
"""Rough ones: of the prior, and of a draw."""


class Packing(NamedTuple):
    """How counts of values lie in words."""

    bits: int  # of a field
    fields: int  # in a word
    words: int  # of all values


def packing(n_values: int, largest: int) -> Packing:
    """For counts up to the largest one, of so many values."""
    bits = largest.bit_length()
    fields = WORD_BITS // bits
    return Packing(bits, fields, -(-n_values // fields))


class Chains(NamedTuple):
    """What the chains of all rows do."""

    factors: np.ndarray  # float32 [sweeps + 1, most conflicts + 1]
    memberships: np.ndarray  # int32 [N, most groups of a symbol], padded with -1
    n_groups: int
    packing: Packing
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

    chain: np.ndarray  # int64 [LANES]: its number in its row times 2^16
    row: np.ndarray  # int64 [LANES]: the number of its row among all
    prior: np.ndarray  # float32 [N K, LANES]
    total: np.ndarray  # float32 [N K, LANES]: sums of conditionals
    own: np.ndarray  # int32 [N words, LANES]: a 1 in the field of the value of a symbol, 0 before the first
    counts: np.ndarray  # int32 [n_groups words, LANES]: members that hold a value
    sums: np.ndarray  # int32 [words, LANES]: counts of the groups of one symbol
    uniforms: np.ndarray  # float32 [4, LANES]
    weights: np.ndarray  # float32 [K, LANES]: of the values of one symbol
    cumulative: np.ndarray  # float32 [K, LANES]: their running sums
    annealing: np.ndarray  # int64 [LANES]
    final: np.ndarray  # int64 [LANES]
    pairs: np.ndarray  # int32 [1, LANES]
    powers: np.ndarray  # float32: factors of 1, 2, 4, ... conflicts in a sweep, 1 beyond the most conflicts


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
    packed = packing(k, factors.shape[1] - 1 + memberships.shape[1])
    settings = Chains(factors.numpy(), memberships.numpy(), n_groups, packed, recorded, U64(seed), first_row)
    results = Results(marginals, annealing, final)

    on_rows = run_few_rows if batch * chains <= LANES // 2 else run_rows

    def work(first: int, last: int) -> None:
        on_rows(priors, settings, results, first, last)

    for_rows(work, batch, max(1, LANES // chains), len(factors) * chains * n * k * NANOSECONDS_PER_VALUE)
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
def draw_uniforms(position, sweep, workspace, seed):
    """Four float32 in [0, 1) for every chain: [4, LANES]."""
    found = uniform_lanes(workspace.uniforms, position, workspace.chain, sweep, workspace.row, seed)
    for index in range(4):
        floats.store(workspace.uniforms, index, found[index])


@inlined
def leave(workspace, symbol, memberships, words):
    """Take the symbol out of the counts of its groups, and add these up: sums [words, LANES]."""
    own, counts = workspace.own, workspace.counts
    for word in range(words):
        held, total = integers.load(own, symbol * words + word, 0), integers.filled_like(own, 0)
        for slot in range(memberships.shape[1]):
            group = memberships[symbol, slot]
            if group >= 0:
                count = integers.subtract(integers.load(counts, group * words + word, 0), held)
                integers.store(counts, group * words + word, 0, count)
                total = integers.add(total, count)
        integers.store(workspace.sums, word, 0, total)


@inlined
def conditional(workspace, symbol, powers, packing):
    """Weights [K, LANES] of a symbol's values, given all others, and their running sums.

    The factor of n conflicts is the product of those of the powers of two that n is a sum of, and at least LEAST.
    """
    prior, weights, cumulative = workspace.prior, workspace.weights, workspace.cumulative
    k, running = len(weights), floats.filled(weights, 0.0)
    for word in range(packing.words):
        conflicts = integers.load(workspace.sums, word, 0)
        first = word * packing.fields
        for v in range(first, min(first + packing.fields, k)):
            factor = floats.filled(weights, 1.0)
            for b in range(FEWEST_POWERS):
                factor = integers.multiply_where_bit(factor, conflicts, np.int32(1 << b), powers[b])
            for b in range(FEWEST_POWERS, len(powers)):
                factor = integers.multiply_where_bit(factor, conflicts, np.int32(1 << b), powers[b])
            conflicts = integers.shift_right(conflicts, packing.bits)
            weight = floats.load(prior, symbol * k + v) * floats.maximum(factor, LEAST)
            running = running + weight
            floats.store(weights, v, weight)
            floats.store(cumulative, v, running)


@inlined
def value_in_word(cumulative, threshold, word, packing):
    """A 1 in the field of the number of running sums, but the last, that the threshold reaches; 0 in other words."""
    first, k = word * packing.fields, len(cumulative)
    held = integers.filled_like(cumulative, word == 0)
    for v in range(max(first, 1), min(first + packing.fields, k)):
        bit = np.int32(1) << np.int32((v - first) * packing.bits)
        held = integers.where_at_most(floats.load(cumulative, v - 1), threshold, bit, held)
    if first + packing.fields < k:
        held = integers.where_at_most(floats.load(cumulative, first + packing.fields - 1), threshold, 0, held)
    return held


@inlined
def enter(workspace, symbol, memberships, threshold, packing):
    """Count the symbol under its new value, which the running sums and a threshold say."""
    own, counts, words = workspace.own, workspace.counts, packing.words
    for word in range(words):
        held = value_in_word(workspace.cumulative, threshold, word, packing)
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
    weights, cumulative, pairs = workspace.weights, workspace.cumulative, workspace.pairs
    factors, memberships, recorded, packing = chains.factors, chains.memberships, chains.recorded, chains.packing
    n, sweeps = len(memberships), len(factors) - 1
    clear(workspace)
    for sweep in range(sweeps + 1):
        for b in range(bits_below(factors.shape[1])):
            powers[b] = factors[sweep, 1 << b]
        if 0 < sweep <= max(sweeps - recorded, 1):
            add_conflicts(counts, packing, pairs, workspace.annealing)
        for i in range(n):
            if i % 4 == 0:
                draw_uniforms(i // 4, sweep, workspace, chains.seed)
            leave(workspace, i, memberships, packing.words)
            conditional(workspace, i, powers, packing)
            threshold = floats.load(uniforms, i % 4) * floats.load(cumulative, len(cumulative) - 1)
            enter(workspace, i, memberships, threshold, packing)
            if sweep > sweeps - recorded:
                add_conditional(weights, cumulative, total, i)
    add_conflicts(counts, packing, pairs, workspace.final)


@inlined
def clear(workspace):
    """No symbol has a value yet, and nothing is summed."""
    for index in range(len(workspace.own)):
        integers.store(workspace.own, index, 0, integers.filled_like(workspace.own, 0))
    for index in range(len(workspace.counts)):
        integers.store(workspace.counts, index, 0, integers.filled_like(workspace.counts, 0))
    for index in range(len(workspace.total)):
        floats.store(workspace.total, index, 0.0)
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
    n_groups, powers, words = chains.n_groups, bits_below(chains.factors.shape[1]), chains.packing.words
    return Workspace(
        np.zeros(LANES, np.int64),
        np.zeros(LANES, np.int64),
        np.empty((n * k, LANES), F32),
        np.empty((n * k, LANES), F32),
        np.empty((n * words, LANES), np.int32),
        np.empty((n_groups * words, LANES), np.int32),
        np.empty((words, LANES), np.int32),
        np.empty((4, LANES), F32),
        np.empty((k, LANES), F32),
        np.empty((k, LANES), F32),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
        np.empty((1, LANES), np.int32),
        np.ones(max(powers, FEWEST_POWERS), F32),
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
    prior, total, own = work.prior[:, :half], work.total[:, :half], work.own[:, :half]
    counts, sums, uniforms = work.counts[:, :half], work.sums[:, :half], work.uniforms[:, :half]
    weights = work.weights[:, :half], work.cumulative[:, :half]
    conflicts = work.annealing, work.final, work.pairs[:, :half]
    return Workspace(work.chain, work.row, prior, total, own, counts, sums, uniforms, *weights, *conflicts, work.powers)


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
            workspace.chain[lane] = index % n_chains << 16
            workspace.row[lane] = chains.first_row + index // n_chains
        read_priors(prior, start, n_chains, workspace, n_lanes)
        run_block(chains, workspace)
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
