"""Reads labels of paths, and turns scores of sampled paths into weights and posteriors, on the GPU."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.abc_sampling.weights import NEG_INF, Scores, size_and_mean
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.given_label.kernels import exp

ON_PATH, START, GOAL = tl.constexpr(1), tl.constexpr(2), tl.constexpr(4)
LEVELS = tl.constexpr(1 << 14)  # as in emnesy_gpu.reference.grid_paths

# How a score becomes a column; weighting "exact", and the others by what is compared.
EXACT, FRACTION_OF_CELLS, DIFFERING_CELLS, FRACTION_OF_COST, DIFFERENCE_OF_COST = (tl.constexpr(i) for i in range(5))


@triton.jit(do_not_specialize=["n", "k"])
def label_kernel(
    logits_ptr, label_ptr, mask_ptr, start_ptr, goal_ptr, cells_ptr, status_ptr, n, k, TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """The path, its ends, its number of cells and the status of one row.

    Grid (batch,). logits [batch, n, k], label int64 [batch, n]; mask uint8 [batch, n]; start, goal and cells int32
    [batch], status uint8 [batch].
    """
    row = tl.program_id(0).to(tl.int64)
    value = tl.arange(0, WIDTH)[None, :]
    starts = tl.zeros((TILE, 1), tl.int32)
    goals = tl.zeros((TILE, 1), tl.int32)
    cells = tl.zeros((TILE, 1), tl.int32)
    wrong = tl.zeros((TILE, 1), tl.int32)
    broken = tl.zeros((TILE, 1), tl.int32)
    first = tl.full((TILE, 1), 1 << 30, tl.int32)
    last = tl.full((TILE, 1), 1 << 30, tl.int32)
    for begin in range(0, n, TILE):
        cell = begin + tl.arange(0, TILE)[:, None]
        bits = tl.load(label_ptr + row * n + cell, mask=cell < n, other=0)
        on_path = (bits & ON_PATH).to(tl.int32)
        tl.store(mask_ptr + row * n + cell, on_path.to(tl.uint8), mask=cell < n)
        cells += on_path
        wrong |= ((bits < 0) | (bits >= 2 * GOAL)).to(tl.int32)
        starts += ((bits & START) != 0).to(tl.int32)
        goals += ((bits & GOAL) != 0).to(tl.int32)
        first = tl.minimum(first, tl.where((bits & START) != 0, cell, 1 << 30))
        last = tl.minimum(last, tl.where((bits & GOAL) != 0, cell, 1 << 30))
        inside = (cell < n) & (value < k)
        logits = bounded(tl.load(logits_ptr + (row * n + cell) * k + value, mask=inside, other=NEG_INF)).to(tl.float64)
        no_prior = tl.max((~(logits < float("inf"))).to(tl.int32), 1, keep_dims=True)
        no_prior |= 1 - tl.max((logits > NEG_INF).to(tl.int32), 1, keep_dims=True)
        broken |= tl.where(cell < n, no_prior, 0)
    n_starts = tl.sum(tl.sum(starts, 1), 0)
    n_goals = tl.sum(tl.sum(goals, 1), 0)
    code = tl.where(tl.max(tl.max(broken, 1), 0) > 0, INVALID_LOGITS, POSSIBLE)
    refused = (n_starts != n_goals) | (n_starts > 1) | (tl.max(tl.max(wrong, 1), 0) > 0)
    tl.store(status_ptr + row, tl.where(refused, INVALID_LABEL, code).to(tl.uint8))
    tl.store(start_ptr + row, tl.where(n_starts > 0, tl.min(tl.min(first, 1), 0), 0))
    tl.store(goal_ptr + row, tl.where(n_goals > 0, tl.min(tl.min(last, 1), 0), n - 1))
    tl.store(cells_ptr + row, tl.sum(tl.sum(cells, 1), 0))


@triton.jit(do_not_specialize=["batch", "n", "n_samples", "width", "unit"])
def columns_kernel(
    facts_ptr, cells_ptr, columns_ptr, counts_ptr, matches_ptr, batch, n, n_samples, width, unit, HOW: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """The column that counts each sample, and how many have the label.

    Grid (ceil(batch * n_samples / LANES),). facts int32 [4, batch, n_samples]: shared cells, length, cost of the path,
    cost of the label; cells [batch]; columns int32 [batch, n_samples]; counts int32 [batch, width], matches int64
    [batch], 0 before.
    """
    lane = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    size = batch.to(tl.int64) * n_samples
    inside = lane < size
    row = lane // n_samples
    shared = tl.load(facts_ptr + lane, mask=inside, other=0).to(tl.int64)
    length = tl.load(facts_ptr + size + lane, mask=inside, other=1).to(tl.int64)
    union = tl.load(cells_ptr + row, mask=inside, other=0) + length - shared
    equal = union == shared
    column = equal.to(tl.int64)
    if HOW == FRACTION_OF_CELLS:
        column = shared * LEVELS // union
    if HOW == DIFFERING_CELLS:
        column = 2 * n - (union - shared)
    if HOW >= FRACTION_OF_COST:
        path_cost = tl.load(facts_ptr + 2 * size + lane, mask=inside, other=1).to(tl.int64) // unit
        label_cost = tl.load(facts_ptr + 3 * size + lane, mask=inside, other=1).to(tl.int64) // unit
        if HOW == FRACTION_OF_COST:
            fraction = path_cost * LEVELS // tl.maximum(label_cost, 1)
            column = tl.where(label_cost > path_cost, fraction, LEVELS)
        else:
            column = LEVELS - tl.minimum(tl.maximum(label_cost - path_cost, 0), LEVELS)
    tl.store(columns_ptr + lane, column.to(tl.int32), mask=inside)
    tl.atomic_add(counts_ptr + row * width + column, 1, mask=inside, sem="relaxed")
    tl.atomic_add(matches_ptr + row, 1, mask=inside & equal, sem="relaxed")


@triton.jit(do_not_specialize=["width", "n", "k"])
def results_kernel(
    logits_ptr, exponents_ptr, counts_ptr, sums_ptr, sharpness_ptr, marginals_ptr, evidence_ptr, status_ptr, size_ptr,
    level_ptr, width, n, k, CHANGES: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All results of one row from its counts and weighted sums.

    Grid (batch,). logits and marginals [batch, n, k], exponents [width], counts [batch, width], sums int64 [batch, n,
    k], or with CHANGES float64, of samples that are not drawn from the prior of the changed symbol; others [batch].
    """
    row = tl.program_id(0).to(tl.int64)
    scores = Scores(exponents_ptr, counts_ptr + row * width, 1, width, False)
    level = tl.load(sharpness_ptr + row)
    size, log_mean, best = size_and_mean(scores, level, BLOCK)
    code = tl.load(status_ptr + row).to(tl.int32)
    code = tl.where((code == POSSIBLE) & (best == NEG_INF), IMPOSSIBLE, code)
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        value = tl.arange(0, WIDTH)[None, :]
        inside = (symbol < n) & (value < k)
        at = (row * n + symbol) * k + value
        logits = bounded(tl.load(logits_ptr + at, mask=inside, other=NEG_INF)).to(tl.float64)
        prior = exp(logits - tl.max(tl.where(symbol < n, logits, 0.0), 1, keep_dims=True))
        weight = tl.load(sums_ptr + at, mask=inside, other=0).to(tl.float64)
        if CHANGES:
            weight = weight * prior
        found = tl.where(code == POSSIBLE, weight, prior)
        found = found / tl.sum(tl.where(symbol < n, found, 1.0), 1, keep_dims=True)
        tl.store(marginals_ptr + at, found, mask=inside)
    tl.store(evidence_ptr + row, tl.where(code == POSSIBLE, log_mean, NEG_INF))
    tl.debug_barrier()  # other warps have read the status
    tl.store(status_ptr + row, code.to(tl.uint8))
    tl.store(size_ptr + row, size)
    tl.store(level_ptr + row, level)
