"""Draws samples from the prior, and counts them by score and by the value of each symbol. A lane is a sample."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import WORDS, Counter, is_above, positive_words
from emnesy_gpu.kernels.gpu.scored.scores import Row, Symbols, satisfied


@triton.jit
def _draw(held_ptr, thresholds_ptr, n, counter, STEPS: tl.constexpr, LANES: tl.constexpr):
    """Stores the values of n symbols of every lane."""
    for block in range(tl.cdiv(n, WORDS)):
        words = positive_words(counter, block)
        for j in tl.static_range(WORDS):
            i = block * WORDS + j
            value = tl.zeros((LANES,), tl.int32)
            for v in range(STEPS):
                value += is_above(words[j], thresholds_ptr + tl.minimum(i, n - 1) * STEPS, v).to(tl.int32)
            if i < n:
                tl.store(held_ptr + i * LANES, value.to(tl.int16))


@triton.jit(
    do_not_specialize=["batch", "n", "n_entries", "n_constraints", "room", "n_samples", "tiles", "seed", "first_row"]
)
def histogram_kernel(
    thresholds_ptr, label_ptr, table_0, table_1, table_2, result_ptr, held_ptr, scratch_ptr, batch, n, n_entries,
    n_constraints, room, n_samples, tiles, seed, first_row, SCORE: tl.constexpr, SIZES: tl.constexpr, FUNCTION: tl.constexpr,
    STEPS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """A task is LANES samples of one row.

    Grid (programs,), task after task. thresholds [batch, n, STEPS], label [batch, n_entries], result int64 [batch,
    n_constraints + 1, n, STEPS + 1], held int16 [programs, n, LANES], scratch int32 [programs, room, LANES].
    """
    K: tl.constexpr = STEPS + 1
    lanes = tl.arange(0, LANES)
    held_ptr += tl.program_id(0).to(tl.int64) * n * LANES + lanes
    scratch_ptr += tl.program_id(0).to(tl.int64) * room * LANES + lanes
    for task in range(tl.program_id(0), batch * tiles, tl.num_programs(0)):
        number = (task // tiles).to(tl.int64)
        t = task % tiles * LANES + lanes
        counter = Counter(seed, t, first_row.to(tl.int64) + number)
        _draw(held_ptr, thresholds_ptr + number * n * STEPS, n, counter, STEPS, LANES)
        tl.debug_barrier()
        tables = table_0, table_1, table_2
        row = Row(label_ptr + number * n_entries, tables, number, batch, n, n_constraints, scratch_ptr)
        symbols = Symbols(held_ptr, -1, tl.zeros((LANES,), tl.int32), LANES)
        score = satisfied(symbols, row, SCORE, SIZES, FUNCTION)
        own_ptr = result_ptr + (number * (n_constraints + 1) + score) * n * K
        for i in range(n):
            value = tl.load(held_ptr + i * LANES).to(tl.int32)
            tl.atomic_add(own_ptr + i * K + value, 1, mask=t < n_samples, sem="relaxed")
        tl.debug_barrier()


@triton.jit(do_not_specialize=["size", "batch", "n", "k", "n_scores"])
def count_kernel(z_ptr, satisfied_ptr, histogram_ptr, size, batch, n, k, n_scores, LANES: tl.constexpr):
    """Adds LANES samples to counts by score and value; a lane is a sample of a row.

    Grid (ceil(size / LANES),), size = samples * batch. z int64 [samples, batch, n], satisfied int64 [samples, batch],
    histogram int64 [batch, n_scores, n, k].
    """
    lane = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    inside = lane < size
    score = tl.load(satisfied_ptr + lane, mask=inside, other=0)
    own_ptr = histogram_ptr + (lane % batch * n_scores + score) * n * k
    for i in range(n):
        value = tl.load(z_ptr + lane * n + i, mask=inside, other=0)
        tl.atomic_add(own_ptr + i * k + value, 1, mask=inside, sem="relaxed")
