"""Kernels of abc_sampling. A value is one of 16 bits, so that the values of a constraint differ where no bit is met twice.

A lane holds two samples, one in each half of its words: LANES lanes are a tile of 2 * LANES samples. The bits of a
tile, one row per symbol, lie in scratch memory that a program uses again for every tile: small enough for the cache of
a multiprocessor. Every thread reads back what it wrote itself.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import positive_words

SKIP, WEIGH = tl.constexpr(0), tl.constexpr(2)


@triton.jit
def _bit(word, thresholds_ptr, STEPS: tl.constexpr):
    """1 << value, the number of thresholds that the word exceeds."""
    bit = tl.full(word.shape, 1, tl.uint32)
    for v in tl.static_range(STEPS):
        bit = tl.where(word > tl.load(thresholds_ptr + v), 2 << v, bit)
    return bit


@triton.jit
def _draw_bits(thresholds_ptr, bits_ptr, n, seed, t, row, STEPS: tl.constexpr, LANES: tl.constexpr):
    """Bits of samples t and t + LANES to bits_ptr, a pointer for each lane to the first of n rows, rounded up to 4."""
    for block in range(tl.cdiv(n, 4)):
        low = positive_words(seed, block, t, row)
        high = positive_words(seed, block, t + LANES, row)
        for j in tl.static_range(4):
            i = block * 4 + j
            own_ptr = thresholds_ptr + tl.minimum(i, n - 1) * STEPS
            tl.store(bits_ptr + i * LANES, _bit(low[j], own_ptr, STEPS) | (_bit(high[j], own_ptr, STEPS) << 16))


@triton.jit
def _satisfied(
    constraints_ptr, bits_ptr, holds_ptr, nothing, n_constraints, zero, SIZE: tl.constexpr, STORED: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """How many constraints hold in both samples of a lane; which ones, if STORED, to holds_ptr. The row nothing is 0."""
    total = zero
    for c in range(n_constraints):
        seen = zero
        twice = zero
        for j in tl.static_range(SIZE):
            member = tl.load(constraints_ptr + c * SIZE + j)
            bits = tl.load(bits_ptr + tl.where(member < 0, nothing, member) * LANES)
            twice |= seen & bits
            seen |= bits
        holds = tl.where((twice & 0xFFFF) == 0, 1, 0) + tl.where(twice < 0x10000, 0x10000, 0)
        total += holds.to(tl.uint32)
        if STORED:
            tl.store(holds_ptr + c * LANES, holds.to(tl.uint32))
    return total


@triton.jit
def _own_score(incident_ptr, holds_ptr, n_constraints, zero, DEGREE: tl.constexpr, LANES: tl.constexpr):
    """How many of the constraints in one row of the table hold; row n_constraints of holds is 0."""
    total = zero
    for j in tl.static_range(DEGREE):
        c = tl.load(incident_ptr + j)
        total += tl.load(holds_ptr + tl.where(c < 0, n_constraints, c) * LANES)
    return total


@triton.jit
def _count(counts_ptr, weights_ptr, satisfied, total, n_constraints, width, inside):
    """Counts one sample of every lane under its score, and returns its weight, 0 outside."""
    score = tl.where(total == n_constraints, width - 1, satisfied).to(tl.int32)
    tl.atomic_add(counts_ptr + score, 1, mask=inside, sem="relaxed")
    return tl.load(weights_ptr + score, mask=inside, other=0)


@triton.jit
def _add_symbol(sums_ptr, bits_ptr, low, high, everything, VALUES: tl.constexpr, WIDTH: tl.constexpr):
    """To entry v the weights, less than 2^32 in all, of the samples whose value is v at least."""
    bits = tl.load(bits_ptr)
    values = tl.arange(0, WIDTH)
    sums = tl.where(values == 0, everything, 0)
    for v in tl.static_range(1, VALUES):
        weight = tl.where((bits & 0xFFFF) >= (1 << v), low, 0) + tl.where(bits >= (0x10000 << v), high, 0)
        sums = tl.where(values == v, tl.sum(weight, 0), sums)
    sums = sums.to(tl.uint32, bitcast=True).to(tl.int64)
    tl.atomic_add(sums_ptr + values, sums, mask=values < VALUES, sem="relaxed")


@triton.jit
def _weigh_tile(
    thresholds_ptr, weights_ptr, weighted, constraints_ptr, incident_ptr, counts_ptr, sums_ptr, bits_ptr, holds_ptr,
    n, n_constraints, width, seed, t, row, inside_low, inside_high, STEPS: tl.constexpr, SIZE: tl.constexpr,
    DEGREE: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    zero = tl.zeros((LANES,), tl.uint32)
    _draw_bits(thresholds_ptr, bits_ptr, n, seed, t, row, STEPS, LANES)
    tl.debug_barrier()
    total = _satisfied(
        constraints_ptr, bits_ptr, holds_ptr, tl.cdiv(n, 4) * 4, n_constraints, zero, SIZE, DEGREE > 0, LANES
    )
    tl.debug_barrier()
    all_low, all_high = total & 0xFFFF, total >> 16
    if DEGREE == 0:
        low = _count(counts_ptr, weights_ptr, all_low, all_low, n_constraints, width, inside_low)
        high = _count(counts_ptr, weights_ptr, all_high, all_high, n_constraints, width, inside_high)
        if weighted:
            everything = tl.sum(low + high, 0)
            for i in range(n):
                _add_symbol(sums_ptr + i * (STEPS + 1), bits_ptr + i * LANES, low, high, everything, STEPS + 1, WIDTH)
    else:
        for i in range(n):
            own = _own_score(incident_ptr + i * DEGREE, holds_ptr, n_constraints, zero, DEGREE, LANES)
            counts, weights = counts_ptr + i * width, weights_ptr + i * width
            low = _count(counts, weights, own & 0xFFFF, all_low, n_constraints, width, inside_low)
            high = _count(counts, weights, own >> 16, all_high, n_constraints, width, inside_high)
            if weighted:
                everything = tl.sum(low + high, 0)
                _add_symbol(sums_ptr + i * (STEPS + 1), bits_ptr + i * LANES, low, high, everything, STEPS + 1, WIDTH)
    tl.debug_barrier()


@triton.jit(
    do_not_specialize=["batch", "n", "n_constraints", "n_samples", "splits", "seed", "first_row", "first_sample"]
)
def weigh_kernel(
    thresholds_ptr, weights_ptr, work_ptr, constraints_ptr, incident_ptr, counts_ptr, sums_ptr, scratch_ptr,
    batch, n, n_constraints, width, n_samples, splits, scratch, seed, first_row, first_sample,
    STEPS: tl.constexpr, SIZE: tl.constexpr, DEGREE: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Counts by score, and weights by least value. A task is every splits-th tile of the samples of one row.

    Grid (programs,), task after task. thresholds [batch, n, STEPS], weights and counts [batch, n or 1, width].
    """
    lanes = tl.arange(0, LANES)
    bits_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * scratch + lanes
    holds_ptr = bits_ptr + (tl.cdiv(n, 4) * 4 + 1) * LANES
    tl.store(holds_ptr - LANES, tl.zeros((LANES,), tl.uint32))
    if DEGREE > 0:
        tl.store(holds_ptr + n_constraints * LANES, tl.zeros((LANES,), tl.uint32))
    scores = width * (1 if DEGREE == 0 else n)
    for task in range(tl.program_id(0), batch * splits, tl.num_programs(0)):
        row = (task // splits).to(tl.int64)
        work = tl.load(work_ptr + row)
        for start in range((task % splits) * 2 * LANES, tl.where(work == SKIP, 0, n_samples), splits * 2 * LANES):
            t = start + lanes
            _weigh_tile(
                thresholds_ptr + row * (n * STEPS), weights_ptr + row * scores, work == WEIGH, constraints_ptr,
                incident_ptr, counts_ptr + row * scores, sums_ptr + row * (n * (STEPS + 1)), bits_ptr, holds_ptr,
                n, n_constraints, width, seed, first_sample + t, first_row.to(tl.int64) + row, t < n_samples,
                t + LANES < n_samples, STEPS, SIZE, DEGREE, LANES, WIDTH,
            )  # fmt: skip


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
    for block in range(tl.cdiv(n, 4)):
        words = positive_words(seed, block, first_sample + lanes, first_row.to(tl.int64) + row)
        for j in tl.static_range(4):
            i = block * 4 + j
            value = tl.zeros((TILE,), tl.int64)
            for v in range(STEPS):
                value += (words[j] > tl.load(thresholds_ptr + tl.minimum(i, n - 1) * STEPS + v)).to(tl.int64)
            tl.store(z_ptr + i, value, mask=tl.where(lanes < n_samples, i, n) < n)
