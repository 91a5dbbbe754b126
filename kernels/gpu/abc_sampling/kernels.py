"""Draws samples from the prior, and counts and weighs them by their score.

A value is one of 16 bits, so that the values of a constraint differ where no bit is met twice.
A lane holds two samples, one in each half of its words: LANES lanes are a tile of 2 * LANES samples. The bits of a
tile, one row per symbol, lie in scratch memory that a program uses again for every tile: small enough for the cache of
a multiprocessor. Every thread reads back what it wrote itself.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import WORDS, Counter, is_above, positive_words

# What a row asks for, as in emnesy_gpu.reference.abc_sampling.
SKIP, WEIGH = tl.constexpr(0), tl.constexpr(2)


class Options(NamedTuple):
    """Sizes known at compile time."""

    STEPS: tl.constexpr  # thresholds of a symbol, one less than its values
    SIZE: tl.constexpr  # members of a constraint
    DEGREE: tl.constexpr  # constraints of a symbol; 0: one score for all symbols
    LANES: tl.constexpr
    WIDTH: tl.constexpr  # lanes of a row of values, a power of two


class Constraints(NamedTuple):
    """The symbols of every constraint, and the sizes of the problem."""

    members: object  # int32 [n_constraints, SIZE], -1: none
    incident: object  # int32 [n, DEGREE], -1: none
    n: object
    n_constraints: object
    width: object  # scores


class Workspace(NamedTuple):
    """Bits of a tile; a pointer for each lane, the rows are LANES apart."""

    bits: object  # uint32: a row for every symbol, and a row of zeros after a multiple of WORDS rows
    holds: object  # uint32: a row for every constraint, and a row of zeros


class Row(NamedTuple):
    """Inputs and results of a row of the batch."""

    thresholds: object  # int32 [n, STEPS]
    weights: object  # int32 [n or 1, width]
    counts: object  # int32 [n or 1, width]
    sums: object  # int64 [n, STEPS + 1]
    weighted: object  # whether sums are wanted


@triton.jit
def _bit(word, thresholds_ptr, STEPS: tl.constexpr):
    """1 << value, the number of thresholds [STEPS] that each word exceeds, uint32."""
    bit = tl.full(word.shape, 1, tl.uint32)
    for v in tl.static_range(STEPS):
        bit = tl.where(is_above(word, thresholds_ptr, v), 2 << v, bit)
    return bit


@triton.jit
def _draw_bits(row, workspace, n, counter, STEPS: tl.constexpr, LANES: tl.constexpr):
    """Stores the bits of samples t and t + LANES, for n symbols rounded up to a multiple of WORDS."""
    for block in range(tl.cdiv(n, WORDS)):
        low = positive_words(counter, block)
        high = positive_words(Counter(counter.seed, counter.t + LANES, counter.row), block)
        for j in tl.static_range(WORDS):
            i = block * WORDS + j
            own_ptr = row.thresholds + tl.minimum(i, n - 1) * STEPS
            tl.store(workspace.bits + i * LANES, _bit(low[j], own_ptr, STEPS) | (_bit(high[j], own_ptr, STEPS) << 16))


@triton.jit
def _satisfied(constraints, workspace, zero, OPTIONS: tl.constexpr):
    """How many constraints hold in both samples of a lane [LANES]; stores which ones, where symbols have scores."""
    LANES: tl.constexpr = OPTIONS.LANES
    nothing = tl.cdiv(constraints.n, WORDS) * WORDS
    total = zero
    for c in range(constraints.n_constraints):
        seen = zero
        twice = zero
        for j in tl.static_range(OPTIONS.SIZE):
            member = tl.load(constraints.members + c * OPTIONS.SIZE + j)
            bits = tl.load(workspace.bits + tl.where(member < 0, nothing, member) * LANES)
            twice |= seen & bits
            seen |= bits
        holds = tl.where((twice & 0xFFFF) == 0, 1, 0) + tl.where(twice < 0x10000, 0x10000, 0)
        total += holds.to(tl.uint32)
        if OPTIONS.DEGREE > 0:
            tl.store(workspace.holds + c * LANES, holds.to(tl.uint32))
    return total


@triton.jit
def _own_score(incident_ptr, workspace, n_constraints, zero, DEGREE: tl.constexpr, LANES: tl.constexpr):
    """How many of the constraints [DEGREE] of a symbol hold, [LANES]; row n_constraints of holds is 0."""
    total = zero
    for j in tl.static_range(DEGREE):
        c = tl.load(incident_ptr + j)
        total += tl.load(workspace.holds + tl.where(c < 0, n_constraints, c) * LANES)
    return total


@triton.jit
def _count(counts_ptr, weights_ptr, satisfied, total, constraints, inside):
    """Counts one sample of every lane under its score [LANES], and returns its weight, 0 outside."""
    score = tl.where(total == constraints.n_constraints, constraints.width - 1, satisfied).to(tl.int32)
    tl.atomic_add(counts_ptr + score, 1, mask=inside, sem="relaxed")
    return tl.load(weights_ptr + score, mask=inside, other=0)


@triton.jit
def _add_symbol(sums_ptr, bits_ptr, low, high, everything, VALUES: tl.constexpr, WIDTH: tl.constexpr):
    """Adds to entry v the weights [LANES], less than 2^32 in all, of the samples whose value is v at least."""
    bits = tl.load(bits_ptr)
    values = tl.arange(0, WIDTH)
    sums = tl.where(values == 0, everything, 0)
    for v in tl.static_range(1, VALUES):
        weight = tl.where((bits & 0xFFFF) >= (1 << v), low, 0) + tl.where(bits >= (0x10000 << v), high, 0)
        sums = tl.where(values == v, tl.sum(weight, 0), sums)
    sums = sums.to(tl.uint32, bitcast=True).to(tl.int64)
    tl.atomic_add(sums_ptr + values, sums, mask=values < VALUES, sem="relaxed")


@triton.jit
def _weigh_tile(row, constraints, workspace, counter, inside_low, inside_high, OPTIONS: tl.constexpr):
    """Draws, counts and weighs the samples t and t + LANES [LANES] of the counter that are inside."""
    STEPS: tl.constexpr = OPTIONS.STEPS
    LANES: tl.constexpr = OPTIONS.LANES
    WIDTH: tl.constexpr = OPTIONS.WIDTH
    n = constraints.n
    zero = tl.zeros((LANES,), tl.uint32)
    _draw_bits(row, workspace, n, counter, STEPS, LANES)
    tl.debug_barrier()
    total = _satisfied(constraints, workspace, zero, OPTIONS)
    tl.debug_barrier()
    all_low, all_high = total & 0xFFFF, total >> 16
    if OPTIONS.DEGREE == 0:
        low = _count(row.counts, row.weights, all_low, all_low, constraints, inside_low)
        high = _count(row.counts, row.weights, all_high, all_high, constraints, inside_high)
        if row.weighted:
            everything = tl.sum(low + high, 0)
            for i in range(n):
                sums_ptr = row.sums + i * (STEPS + 1)
                _add_symbol(sums_ptr, workspace.bits + i * LANES, low, high, everything, STEPS + 1, WIDTH)
    else:
        for i in range(n):
            incident_ptr = constraints.incident + i * OPTIONS.DEGREE
            own = _own_score(incident_ptr, workspace, constraints.n_constraints, zero, OPTIONS.DEGREE, LANES)
            counts, weights = row.counts + i * constraints.width, row.weights + i * constraints.width
            low = _count(counts, weights, own & 0xFFFF, all_low, constraints, inside_low)
            high = _count(counts, weights, own >> 16, all_high, constraints, inside_high)
            if row.weighted:
                everything = tl.sum(low + high, 0)
                sums_ptr = row.sums + i * (STEPS + 1)
                _add_symbol(sums_ptr, workspace.bits + i * LANES, low, high, everything, STEPS + 1, WIDTH)
    tl.debug_barrier()


@triton.jit
def _workspace(scratch_ptr, scratch, constraints, lanes, OPTIONS: tl.constexpr):
    """The part of the scratch memory that belongs to this program, `scratch` words, with its rows of zeros."""
    LANES: tl.constexpr = OPTIONS.LANES
    bits_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * scratch + lanes
    holds_ptr = bits_ptr + (tl.cdiv(constraints.n, WORDS) * WORDS + 1) * LANES
    tl.store(holds_ptr - LANES, tl.zeros((LANES,), tl.uint32))
    if OPTIONS.DEGREE > 0:
        tl.store(holds_ptr + constraints.n_constraints * LANES, tl.zeros((LANES,), tl.uint32))
    return Workspace(bits_ptr, holds_ptr)


@triton.jit(
    do_not_specialize=["batch", "n", "n_constraints", "n_samples", "splits", "seed", "first_row", "first_sample"]
)
def weigh_kernel(
    thresholds_ptr, weights_ptr, work_ptr, constraints_ptr, incident_ptr, counts_ptr, sums_ptr, scratch_ptr,
    batch, n, n_constraints, width, n_samples, splits, scratch, seed, first_row, first_sample,
    STEPS: tl.constexpr, SIZE: tl.constexpr, DEGREE: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Counts by score, and weights by least value. A task is every splits-th tile of the samples of one row.

    Grid (programs,), task after task. thresholds [batch, n, STEPS], weights and counts [batch, n or 1, width], sums
    [batch, n, STEPS + 1], work uint8 [batch], scratch [programs, scratch]; other shapes as in Constraints.
    """
    OPTIONS: tl.constexpr = Options(STEPS, SIZE, DEGREE, LANES, WIDTH)
    constraints = Constraints(constraints_ptr, incident_ptr, n, n_constraints, width)
    lanes = tl.arange(0, LANES)
    workspace = _workspace(scratch_ptr, scratch, constraints, lanes, OPTIONS)
    scores = width * (1 if DEGREE == 0 else n)
    for task in range(tl.program_id(0), batch * splits, tl.num_programs(0)):
        row = (task // splits).to(tl.int64)
        work = tl.load(work_ptr + row)
        for start in range((task % splits) * 2 * LANES, tl.where(work == SKIP, 0, n_samples), splits * 2 * LANES):
            t = start + lanes
            own = Row(
                thresholds_ptr + row * (n * STEPS), weights_ptr + row * scores, counts_ptr + row * scores,
                sums_ptr + row * (n * (STEPS + 1)), work == WEIGH,
            )  # fmt: skip
            counter = Counter(seed, first_sample + t, first_row.to(tl.int64) + row)
            _weigh_tile(own, constraints, workspace, counter, t < n_samples, t + LANES < n_samples, OPTIONS)


@triton.jit(do_not_specialize=["batch", "n", "n_samples", "tiles", "seed", "first_row", "first_sample"])
def draw_kernel(
    thresholds_ptr, z_ptr, batch, n, n_samples, tiles, seed, first_row, first_sample,
    STEPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Values of TILE samples of one row.

    Grid (batch * tiles,). thresholds [batch, n, STEPS], z int64 [n_samples, batch, n].
    """
    row = (tl.program_id(0) // tiles).to(tl.int64)
    lanes = tl.program_id(0) % tiles * TILE + tl.arange(0, TILE)
    z_ptr += (lanes.to(tl.int64) * batch + row) * n
    thresholds_ptr += row * (n * STEPS)
    for block in range(tl.cdiv(n, WORDS)):
        words = positive_words(Counter(seed, first_sample + lanes, first_row.to(tl.int64) + row), block)
        for j in tl.static_range(WORDS):
            i = block * WORDS + j
            value = tl.zeros((TILE,), tl.int64)
            for v in range(STEPS):
                own_ptr = thresholds_ptr + tl.minimum(i, n - 1) * STEPS
                value += is_above(words[j], own_ptr, v).to(tl.int64)
            tl.store(z_ptr + i, value, mask=tl.where(lanes < n_samples, i, n) < n)
