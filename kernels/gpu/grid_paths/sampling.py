"""Draws maps from the prior: scores of their cheapest paths, and weighted histograms of their classes."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import WORDS, Counter, is_above, positive_words
from emnesy_gpu.kernels.gpu.grid_paths.maps import bordered, map_offset, maps_of, measure, step_back


@triton.jit
def draw_maps(maps, n, thresholds_ptr, table_ptr, label_ptr, counter, STEPS: tl.constexpr, TILE: tl.constexpr):
    """Stores the costs of sampled maps; returns what the cells of the label [n] cost, int32 [TILE]."""
    label_cost = tl.zeros(counter.t.shape, tl.int32)
    table = ()
    for v in tl.static_range(STEPS + 1):
        table = table + (tl.load(table_ptr + v),)
    for block in range(tl.cdiv(n, WORDS)):
        words = positive_words(counter, block)
        for j in tl.static_range(WORDS):
            i = tl.minimum(block * WORDS + j, n - 1)
            cost = tl.zeros(counter.t.shape, tl.int32) + table[0]
            for v in tl.static_range(STEPS):
                cost = tl.where(is_above(words[j], thresholds_ptr + i * STEPS, v), table[v + 1], cost)
            inside = n > block * WORDS + j
            label_cost += tl.where(inside & (tl.load(label_ptr + i) != 0), cost, 0)
            # Costs of the border are never read.
            tl.store(maps.costs + tl.where(inside, bordered(i, maps.width), 0) * TILE, cost)
    return label_cost


@triton.jit
def follow(maps, mask_ptr, start, goal, watched, TILE: tl.constexpr):
    """Length of the measured paths, their cells on the label [n], and 1 where they pass a cell; all [TILE]."""
    cell = goal
    row_of_map = goal // maps.side - 1
    length = tl.full((TILE,), 1, tl.int32)
    shared = tl.load(mask_ptr + map_offset(maps, cell, row_of_map)).to(tl.int32)
    passed = (cell == watched).to(tl.int32)
    going = tl.max((cell != start).to(tl.int32), 0)
    while going > 0:
        active = cell != start
        cell, row_of_map = step_back(maps, cell, row_of_map, active, TILE)
        length += active.to(tl.int32)
        shared += tl.load(mask_ptr + map_offset(maps, cell, row_of_map), mask=active, other=0).to(tl.int32)
        passed |= (cell == watched).to(tl.int32)
        going = tl.max((cell != start).to(tl.int32), 0)
    return length, shared, passed


@triton.jit(do_not_specialize=["batch", "n_samples", "tiles", "seed", "first_row", "first_sample"])
def score_kernel(
    thresholds_ptr, table_ptr, label_ptr, start_ptr, goal_ptr, scores_ptr, scratch_ptr, batch, height, width,
    n_samples, tiles, seed, first_row, first_sample, STEPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Draws maps, measures them and follows their paths: shared cells, length, cost of the path, cost of the label.

    Grid (programs,), task after task: one of the tiles of samples of one row. thresholds [batch, n, STEPS], table
    [STEPS + 1], label [batch, n], start and goal [batch], scores int32 [4, batch, n_samples].
    """
    n = height * width
    maps = maps_of(scratch_ptr, height, width, TILE)
    lanes = tl.arange(0, TILE)
    for task in range(tl.program_id(0), batch * tiles, tl.num_programs(0)):
        row = (task // tiles).to(tl.int64)
        sample = task % tiles * TILE + lanes
        mask_ptr = label_ptr + row * n
        own_ptr = thresholds_ptr + row * (n * STEPS)
        counter = Counter(seed, first_sample + sample, first_row.to(tl.int64) + row)
        label_cost = draw_maps(maps, n, own_ptr, table_ptr, mask_ptr, counter, STEPS, TILE)
        tl.debug_barrier()
        zero = tl.zeros((TILE,), tl.int32)
        start = zero + bordered(tl.load(start_ptr + row), width)
        goal = zero + bordered(tl.load(goal_ptr + row), width)
        measure(maps, start, goal, TILE)
        length, shared, _ = follow(maps, mask_ptr, start, goal, zero - 1, TILE)
        out_ptr = scores_ptr + row * n_samples + sample
        step = batch.to(tl.int64) * n_samples
        tl.store(out_ptr, shared, mask=sample < n_samples)
        tl.store(out_ptr + step, length, mask=sample < n_samples)
        tl.store(out_ptr + 2 * step, tl.load(maps.distances + goal * TILE), mask=sample < n_samples)
        tl.store(out_ptr + 3 * step, label_cost, mask=sample < n_samples)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["batch", "n", "n_samples", "width", "seed", "first_row", "first_sample"])
def histogram_kernel(
    thresholds_ptr, weights_ptr, columns_ptr, total_ptr, batch, n, n_samples, width, seed, first_row, first_sample,
    STEPS: tl.constexpr, INDIRECT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The weights of all samples by the value of WORDS symbols of one row; tiles without weight are skipped.

    Grid (batch * ceil(n / WORDS),). thresholds [batch, n, STEPS], total int64 [batch, n, STEPS + 1], weights int32
    [batch, width]: of each sample, or with INDIRECT of each column; columns int32 [batch, n_samples].
    """
    blocks = tl.cdiv(n, WORDS)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    thresholds_ptr += row * (n * STEPS)
    total_ptr += row * (n * (STEPS + 1))
    for sample in range(0, n_samples, TILE):
        t = sample + tl.arange(0, TILE)
        column = t
        if INDIRECT:
            column = tl.load(columns_ptr + row * n_samples + t, mask=t < n_samples, other=0)
        weight = tl.load(weights_ptr + row * width + column, mask=t < n_samples, other=0)
        if tl.max(weight, 0) > 0:
            words = positive_words(Counter(seed, first_sample + t, first_row.to(tl.int64) + row), block)
            for j in tl.static_range(WORDS):
                i = block * WORDS + j
                left = weight
                for v in tl.static_range(STEPS + 1):
                    beyond = tl.zeros((TILE,), tl.int32)
                    if v < STEPS:
                        own_ptr = thresholds_ptr + tl.minimum(i, n - 1) * STEPS
                        beyond = tl.where(is_above(words[j], own_ptr, v), left, 0)
                    added = tl.sum(left - beyond, 0).to(tl.int64)
                    tl.atomic_add(total_ptr + i * (STEPS + 1) + v, added, mask=n > i, sem="relaxed")
                    left = beyond
