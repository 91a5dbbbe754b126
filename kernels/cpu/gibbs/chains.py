"""What chains are told, where counts of values lie in words, and the scratch arrays of a block of chains.

The members of a group that hold each value are counted in fields of few words, so that one addition counts for several
values. The value of a symbol is a 1 in its field.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common import integer_lanes as integers
from emnesy_gpu.kernels.cpu.common import lanes as floats
from emnesy_gpu.kernels.cpu.common.compile import inlined, lane_function
from emnesy_gpu.kernels.cpu.common.integer_lanes import INTEGER_LANES, LOOK_UP_SIZE
from emnesy_gpu.kernels.cpu.common.pointers import numbers_at

LANES = INTEGER_LANES
F32 = np.float32

FEWEST_POWERS = 5
"""So many are multiplied in a loop of known length, which has no branches."""

FEWEST_BITS = LOOK_UP_SIZE.bit_length() - 1
"""Of a field: it alone then says where to look in a table."""

WORD_BITS = 31
"""Of an int32 that is not negative."""


class Packing(NamedTuple):
    """How counts of values lie in words."""

    bits: int  # of a field
    fields: int  # in a word
    words: int  # of all values


@lane_function
def bits_below(number):
    """How many bits the numbers below a number have."""
    bits = 0
    while 1 << bits < number:
        bits += 1
    return bits


@lane_function
def packing(n_values, largest):
    """For counts up to the largest one, of so many values."""
    bits = max(FEWEST_BITS, bits_below(largest + 1))
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


@lane_function
def chains_at(addresses, shape, n_values, numbers):
    """Chains from the addresses of factors and memberships, their shapes one after the other, and the other numbers."""
    sweeps, conflicts, n, width = shape
    factors = numbers_at(addresses[0], sweeps * conflicts, F32(0)).reshape(sweeps, conflicts)
    memberships = numbers_at(addresses[1], n * width, np.int32(0)).reshape(n, width)
    n_groups, number, recorded, step, seed, first_row = numbers
    packed = packing(n_values, conflicts - 1 + width)
    return Chains(factors, memberships, n_groups, packed, number, recorded, step, np.uint64(seed), first_row)


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
