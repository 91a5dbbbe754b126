"""Annealed Gibbs chains draw symbol after symbol given all others: a lane is a chain, whatever row it belongs to.

Value v of symbol i has weight p_i(v) * factor[number of other members of its groups that hold v]. The tables of a block
of lanes, prior, counts and sums of conditionals, stay in the cache; float32 throughout and without contraction to
fused operations, so that the bits are those of ``emnesy_gpu.reference.gibbs``.

The members of a group that hold each value are counted in fields of few words, so that one addition counts for several
values. A sum of counts then says where to look in a table of factors; where the processor has no instruction for that,
the bits of the sum are tested where they lie. The value of a symbol is a 1 in its field.

The chains of few rows wait for results of the previous symbol: what a symbol needs of them stays in registers.
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
from emnesy_gpu.kernels.cpu.common.integer_lanes import INTEGER_LANES, LOOK_UP_SIZE
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox_lanes import uniform_lanes
from emnesy_gpu.kernels.cpu.common.row_driver import result_dtype
from emnesy_gpu.kernels.cpu.common.symbol_rows import row_status, write_softmax
from emnesy_gpu.kernels.status import POSSIBLE

LANES = INTEGER_LANES
F32, U64 = np.float32, np.uint64

FEWEST_POWERS = 5
"""So many are multiplied in a loop of known length, which has no branches."""

FEWEST_BITS = LOOK_UP_SIZE.bit_length() - 1
"""Of a field: it alone then says where to look in a table."""

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
    bits = max(FEWEST_BITS, largest.bit_length())
    fields = WORD_BITS // bits
    return Packing(bits, fields, -(-n_values // fields))


class Chains(NamedTuple):
    """What the chains of all rows do."""

    factors: np.ndarray  # float32 [sweeps + 1, most conflicts + 1]
    memberships: np.ndarray  # int32 [N, most groups of a symbol], padded with -1
    n_groups: int
    packing: Packing
    number: int  # of a row
    recorded: int  # sweeps at the end whose conditionals are summed
    step: float  # growth of the penalty
    seed: np.uint64
    first_row: int


class Sums(NamedTuple):
    """What the chains of some rows have seen."""

    prior: np.ndarray  # float32 [rows, N K]: what they start from
    conditionals: np.ndarray  # float32 [rows, N K]
    annealing: np.ndarray  # int64 [rows, chains]: conflicts summed over the sweeps of annealing
    final: np.ndarray  # int64 [rows, chains]: conflicts at the end


class Results(NamedTuple):
    """What is said about each row, in the float type of the result."""

    marginals: np.ndarray  # [batch, N, K]
    log_evidence: np.ndarray  # [batch]
    satisfied: np.ndarray  # [batch]: share of the chains without a conflict
    status: np.ndarray  # uint8 [batch]


class Workspace(NamedTuple):
    """The scratch arrays of a block of chains, a column per lane: LANES, or views of half of them."""

    chain: np.ndarray  # int64 [LANES]: its number in its row times 2^16
    row: np.ndarray  # int64 [LANES]: the number of its row among all
    prior: np.ndarray  # float32 [N K, LANES]
    total: np.ndarray  # float32 [N K, LANES]: sums of conditionals
    own: np.ndarray  # int32 [N words, LANES]: a 1 in the field of the value of a symbol, 0 before the first
    counts: np.ndarray  # int32 [n_groups words, LANES]: members that hold a value
    uniforms: np.ndarray  # float32 [4, LANES]
    weights: np.ndarray  # float32 [K, LANES]: of the values of one symbol
    cumulative: np.ndarray  # float32 [K, LANES]: their running sums
    annealing: np.ndarray  # int64 [LANES]
    final: np.ndarray  # int64 [LANES]
    pairs: np.ndarray  # int32 [1, LANES]
    powers: np.ndarray  # float32: factors of 1, 2, 4, ... conflicts in a sweep, 1 beyond the most conflicts
    table: np.ndarray  # float32 [LOOK_UP_SIZE]: factors of 0, 1, 2, ... conflicts


def posterior(
    logits: Tensor,
    label: Tensor,
    factors: Tensor,
    memberships: Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
    step: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Marginals, log evidence, share of chains without a conflict, status: all steps of the reference in one kernel."""
    batch, n, k = logits.shape
    dtype = result_dtype(logits)
    taken = logits.detach() if logits.dtype in (torch.float32, torch.float64) else logits.detach().float()
    symbols, labels = taken.numpy(), label.numpy()
    packed = packing(k, factors.shape[1] - 1 + memberships.shape[1])
    numbers = chains, recorded, step, U64(seed), first_row
    settings = Chains(factors.numpy(), memberships.numpy(), n_groups, packed, *numbers)
    of_rows = (np.empty(batch, kind) for kind in (dtype, dtype, np.uint8))
    results = Results(np.empty((batch, n, k), dtype), *of_rows)
    on_rows = posterior_few_rows if batch * chains <= LANES // 2 else posterior_rows

    def work(first: int, last: int) -> None:
        on_rows(symbols, labels, settings, results, first, last)

    cost = NANOSECONDS_PER_LOGIT * n * k + len(factors) * chains * n * k * NANOSECONDS_PER_VALUE
    for_rows(work, batch, max(1, LANES // chains), cost)
    marginals, log_evidence, satisfied, status = map(torch.from_numpy, results)
    return marginals, log_evidence, satisfied, status


@lane_function
def read_prior(logits, prior):
    """The prior [N K] of a row relative to the largest one of each symbol; 1 for all values beside a NaN."""
    n, k = logits.shape
    for i in range(n):
        largest, broken = -np.inf, False
        for v in range(k):
            value = np.float64(logits[i, v])
            largest, broken = max(largest, value), broken or value != value
        for v in range(k):
            difference = np.float64(logits[i, v]) - largest
            # Infinite ones less themselves are NaN.
            if broken or difference != difference:
                prior[i * k + v] = 1.0
            else:
                prior[i * k + v] = math.exp(difference) if difference >= -LARGEST_LOG_RATIO else 0.0


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
        floats.lane_rows(n * k, LANES, F32),
        floats.lane_rows(n * k, LANES, F32),
        floats.lane_rows(n * words, LANES, np.int32),
        floats.lane_rows(n_groups * words, LANES, np.int32),
        floats.lane_rows(4, LANES, F32),
        floats.lane_rows(k, LANES, F32),
        floats.lane_rows(k, LANES, F32),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
        floats.lane_rows(1, LANES, np.int32),
        np.ones(max(powers, FEWEST_POWERS), F32),
        floats.lane_rows(1, LOOK_UP_SIZE, F32)[0],
    )


@lane_function
def half_of(work):
    """The same with half as many lanes."""
    half = LANES // 2
    prior, total, own = work.prior[:, :half], work.total[:, :half], work.own[:, :half]
    counts, uniforms = work.counts[:, :half], work.uniforms[:, :half]
    weights = work.weights[:, :half], work.cumulative[:, :half]
    conflicts = work.annealing, work.final, work.pairs[:, :half]
    factors = work.powers, work.table
    return Workspace(work.chain, work.row, prior, total, own, counts, uniforms, *weights, *conflicts, *factors)


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
def run_blocks(chains, sums, first_row, workspace):
    """The chains of the rows of some sums, as many at a time as there are lanes."""
    n_chains, lanes = chains.number, workspace.prior.shape[1]
    for start in range(0, sums.annealing.size, lanes):
        n_lanes = min(lanes, sums.annealing.size - start)
        for lane in range(n_lanes):
            index = start + lane
            workspace.chain[lane] = index % n_chains << 16
            workspace.row[lane] = first_row + index // n_chains
        read_priors(sums.prior, start, n_chains, workspace, n_lanes)
        run_block(chains, workspace)
        for lane in range(n_lanes):
            row, chain = (start + lane) // n_chains, (start + lane) % n_chains
            sums.annealing[row, chain] = workspace.annealing[lane]
            sums.final[row, chain] = workspace.final[lane]
            sums.conditionals[row] += workspace.total[:, lane]


@lane_function
def empty_sums(rows, n_numbers, n_chains):
    """Of no conditional yet, for rows of so many logits."""
    return Sums(
        np.empty((rows, n_numbers), F32),
        np.zeros((rows, n_numbers), F32),
        np.empty((rows, n_chains), np.int64),
        np.empty((rows, n_chains), np.int64),
    )


@lane_function
def write_means(conditionals, scale, marginals):
    """Marginals [N, K] from sums of conditionals [N K]: float32 divided by a number, and then by their sum."""
    n, k = marginals.shape
    for i in range(n):
        total = 0.0
        for v in range(k):
            total += np.float64(conditionals[i * k + v] / scale)
        for v in range(k):
            marginals[i, v] = np.float64(conditionals[i * k + v] / scale) / total


@lane_function
def mean_log_weight(annealing, step):
    """Log of the mean over the chains [chains] of exp(-step * conflicts)."""
    least, total = annealing.min(), 0.0
    for conflicts in annealing:
        total += math.exp(-step * (conflicts - least))
    return math.log(total) - step * least - math.log(len(annealing))


@lane_function
def posterior_in(logits, label, chains, results, first, last, workspace):
    """Rows first .. last - 1 of the results."""
    _, n, k = logits.shape
    sums = empty_sums(last - first, n * k, chains.number)
    for row in range(first, last):
        read_prior(logits[row], sums.prior[row - first])
    run_blocks(chains, sums, chains.first_row + first, workspace)
    for row in range(first, last):
        status = row_status(logits[row], label[row])
        if status == POSSIBLE:
            write_means(sums.conditionals[row - first], F32(chains.number * chains.recorded), results.marginals[row])
            results.log_evidence[row] = mean_log_weight(sums.annealing[row - first], chains.step)
        else:
            write_softmax(logits[row], results.marginals[row])
            results.log_evidence[row] = -np.inf
        results.satisfied[row] = np.count_nonzero(sums.final[row - first] == 0) / chains.number
        results.status[row] = status


@kernel
def posterior_rows(logits, label, chains, results, first, last):
    """See ``posterior_in``."""
    _, n, k = logits.shape
    posterior_in(logits, label, chains, results, first, last, empty_workspace(n, k, chains))


@kernel
def posterior_few_rows(logits, label, chains, results, first, last):
    """The same for chains that fit in half the lanes."""
    _, n, k = logits.shape
    posterior_in(logits, label, chains, results, first, last, half_of(empty_workspace(n, k, chains)))
