"""Weights of all single changes of sampled maps: every value of every cell, with the weight that the sample then has.

A program takes one cell and TILE samples at a time, each in a thread of its own. It measures the maps as drawn, and
again for every value that moves a path: a lower cost of a cell off the path, or a higher one of a cell on it. Ties
included, no other change moves the path.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import Counter
from emnesy_gpu.kernels.gpu.grid_paths.maps import bordered, maps_of, measure
from emnesy_gpu.kernels.gpu.grid_paths.sampling import draw_maps, follow


@triton.jit
def _differing(maps, mask_ptr, start, goal, watched, cells, TILE: tl.constexpr):
    """How many cells are on exactly one of path and label, and whether the watched cell is on the path."""
    length, shared, passed = follow(maps, mask_ptr, start, goal, watched, TILE)
    return cells + length - 2 * shared, passed


@triton.jit
def _weights_of_changes(
    maps, mask_ptr, table_ptr, weights_ptr, step, start, goal, cell, cells, STEPS: tl.constexpr, LANES: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """The weight of each map after cell has each value [LANES, TILE]."""
    measure(maps, start, goal, TILE)
    own = tl.load(maps.costs + cell * TILE)
    before, passed = _differing(maps, mask_ptr, start, goal, cell, cells, TILE)
    value = tl.arange(0, LANES)[:, None]
    weight = tl.zeros((LANES, TILE), tl.float64) + tl.load(weights_ptr + step * before)[None, :]
    for v in range(STEPS + 1):
        cost = tl.load(table_ptr + v)
        moved = tl.where(passed == 1, cost > own, cost < own)
        if tl.max(moved.to(tl.int32), 0) > 0:
            tl.debug_barrier()
            tl.store(maps.costs + cell * TILE, tl.where(moved, cost, own))
            tl.debug_barrier()
            measure(maps, start, goal, TILE)
            after, _ = _differing(maps, mask_ptr, start, goal, cell, cells, TILE)
            changed = moved[None, :] & (value == v)
            weight = tl.where(changed, tl.load(weights_ptr + step * after)[None, :], weight)
    tl.debug_barrier()
    return weight


@triton.jit(
    do_not_specialize=[
        "batch",
        "width_of_weights",
        "first_weight",
        "step",
        "n_samples",
        "seed",
        "first_row",
        "first_sample",
    ]
)
def changes_kernel(
    thresholds_ptr, table_ptr, label_ptr, start_ptr, goal_ptr, weights_ptr, total_ptr, scratch_ptr, batch, height, width,
    width_of_weights, first_weight, step, n_samples, seed, first_row, first_sample, STEPS: tl.constexpr,
    LANES: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Sums of weights of changed samples by the value of each cell.

    Grid (programs,), task after task: one cell of one row. thresholds [batch, n, STEPS], table [STEPS + 1], label
    [batch, n], start and goal [batch], weights float64 [batch, width_of_weights]: the one of a map with d differing
    cells is first_weight + step * d; total float64 [batch, n, STEPS + 1].
    """
    n = height * width
    maps = maps_of(scratch_ptr, height, width, TILE)
    value = tl.arange(0, LANES)
    for task in range(tl.program_id(0), batch * n, tl.num_programs(0)):
        row = (task // n).to(tl.int64)
        cell = tl.zeros((TILE,), tl.int32) + bordered(task % n, width)
        mask_ptr = label_ptr + row * n
        own_ptr = weights_ptr + row * width_of_weights + first_weight
        start = tl.zeros((TILE,), tl.int32) + bordered(tl.load(start_ptr + row), width)
        goal = tl.zeros((TILE,), tl.int32) + bordered(tl.load(goal_ptr + row), width)
        cells = tl.zeros((), tl.int32)
        for i in range(n):
            cells += tl.load(mask_ptr + i).to(tl.int32)
        total = tl.zeros((LANES,), tl.float64)
        for first in range(0, n_samples, TILE):
            t = first + tl.arange(0, TILE)
            counter = Counter(seed, first_sample + t, first_row.to(tl.int64) + row)
            draw_maps(maps, n, thresholds_ptr + row * (n * STEPS), table_ptr, mask_ptr, counter, STEPS, TILE)
            tl.debug_barrier()
            weight = _weights_of_changes(
                maps, mask_ptr, table_ptr, own_ptr, step, start, goal, cell, cells, STEPS, LANES, TILE
            )  # fmt: skip
            total += tl.sum(tl.where((t < n_samples)[None, :], weight, 0.0), 1)
        out_ptr = total_ptr + (row * n + task % n) * (STEPS + 1)
        tl.store(out_ptr + value, total, mask=value <= STEPS)
