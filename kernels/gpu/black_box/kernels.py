"""Counts samples by a score of the user. A lane is a sample; the score takes its symbols as a tuple of N tensors."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import WORDS, Counter, is_above, positive_words


@triton.jit
def _value(word, thresholds_ptr, STEPS: tl.constexpr):
    """The number of thresholds [STEPS] that each word exceeds, int32."""
    value = tl.zeros(word.shape, tl.int32)
    for v in range(STEPS):
        value = tl.where(is_above(word, thresholds_ptr, v), v + 1, value)
    return value


@triton.jit(do_not_specialize=["n_constraints", "n_samples", "tiles", "seed", "first_row"])
def histogram_kernel(
    thresholds_ptr, label_ptr, result_ptr, n_constraints, n_samples, tiles, seed, first_row,
    SCORE: tl.constexpr, N: tl.constexpr, ENTRIES: tl.constexpr, STEPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Counts TILE samples of one row by their score and values.

    Grid (batch * tiles,). thresholds [batch, N, STEPS], label [batch, ENTRIES], result [batch, scores, N, STEPS + 1].
    """
    row = (tl.program_id(0) // tiles).to(tl.int64)
    t = tl.program_id(0) % tiles * TILE + tl.arange(0, TILE)
    thresholds_ptr += row * (N * STEPS)
    result_ptr += row * (n_constraints + 1) * (N * (STEPS + 1))
    y = ()
    for j in tl.static_range(ENTRIES):
        y = y + (tl.load(label_ptr + row * ENTRIES + j),)
    z = ()
    for block in tl.static_range((N + WORDS - 1) // WORDS):
        words = positive_words(Counter(seed, t, first_row.to(tl.int64) + row), block)
        for j in tl.static_range(WORDS):
            if block * WORDS + j < N:
                z = z + (_value(words[j], thresholds_ptr + (block * WORDS + j) * STEPS, STEPS),)
    score = tl.zeros((TILE,), tl.int32) + SCORE(z, y)
    score = tl.minimum(tl.maximum(score, 0), n_constraints).to(tl.int64)
    for i in tl.static_range(N):
        entry = (score * N + i) * (STEPS + 1) + z[i]
        tl.atomic_add(result_ptr + entry, 1, mask=t < n_samples, sem="relaxed")
