"""Kernels of grid_paths. A program is one warp, and a thread has a map of its own: they meet at the ends of loops alone.

Costs and distances of a tile of maps, a row of TILE for every cell and for a border of cells around them, lie in
scratch memory that a program uses again for every tile. Cells are named by their rows there.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.philox import positive_words

UNREACHABLE = tl.constexpr(1 << 30)


@triton.jit
def _relax_row(costs_ptr, d_ptr, first, before, width, bound, TILE: tl.constexpr):
    """Relax the cells from ``first`` on from those from ``before`` on, then from the left, then from the right.

    Afterwards no step within the row is worth taking. Positive where some distance fell to something below the bound.
    """
    before_ptr = d_ptr + before * TILE
    here_ptr = d_ptr + first * TILE
    cost_ptr = costs_ptr + first * TILE
    behind = tl.full(bound.shape, UNREACHABLE, tl.int32)
    left = behind
    beside = tl.load(before_ptr)
    improved = tl.zeros(bound.shape, tl.int32)
    for _ in range(width):
        before_ptr += TILE
        ahead = tl.load(before_ptr)
        old = tl.load(here_ptr)
        nearest = tl.minimum(tl.minimum(behind, beside), tl.minimum(ahead, left))
        left = tl.minimum(old, nearest + tl.load(cost_ptr))
        improved = tl.maximum(improved, tl.minimum(old, bound) - left)
        tl.store(here_ptr, left)
        here_ptr += TILE
        cost_ptr += TILE
        behind = beside
        beside = ahead
    right = left
    for _ in range(width):
        here_ptr -= TILE
        cost_ptr -= TILE
        old = tl.load(here_ptr)
        right = tl.minimum(old, right + tl.load(cost_ptr))
        improved = tl.maximum(improved, tl.minimum(old, bound) - right)
        tl.store(here_ptr, right)
    return tl.max(improved, 0)


@triton.jit
def _measure(costs_ptr, d_ptr, height, width, start, goal, TILE: tl.constexpr):
    """Cost of the cheapest path from start to each cell, exact for all that are no farther than the goal."""
    side = width + 2
    nowhere = tl.full(start.shape, UNREACHABLE, tl.int32)
    for cell in range((height + 2) * side):
        tl.store(d_ptr + cell * TILE, nowhere)
    tl.debug_barrier()
    tl.store(d_ptr + start * TILE, tl.load(costs_ptr + start * TILE))
    tl.debug_barrier()
    # Bits of rows that have yet to be relaxed from the row before them, and from the row after them.
    one = tl.full((), 1, tl.int64)
    rows = (one << (height + 1)) - 2
    here = rows
    there = rows
    way = 1
    while (here | there) != 0:
        bound = tl.load(d_ptr + goal * TILE)
        for step in range(height):
            r = tl.where(way > 0, step + 1, height - step)
            if ((here >> r) & 1) != 0:
                here &= ~(one << r)
                if _relax_row(costs_ptr, d_ptr, r * side + 1, (r - way) * side + 1, width, bound, TILE) > 0:
                    here |= (one << (r + way)) & rows
                    there |= (one << (r - way)) & rows
        tl.debug_barrier()
        turned = here
        here = there
        there = turned
        way = -way


@triton.jit
def _step_back(costs_ptr, d_ptr, side, cell, row, active, TILE: tl.constexpr):
    """The cell before a cell on the way from the start, and its row, for active lanes; the others stay."""
    wanted = tl.load(d_ptr + cell * TILE) - tl.load(costs_ptr + cell * TILE)
    offset = tl.zeros(cell.shape, tl.int32)
    down = offset
    for place in tl.static_range(8, -1, -1):
        if place != 4:
            here = (place // 3 - 1) * side + place % 3 - 1
            fits = tl.load(d_ptr + (cell + here) * TILE, mask=active, other=-1) == wanted
            offset = tl.where(fits, here, offset)
            down = tl.where(fits, place // 3 - 1, down)
    return cell + offset, row + down


@triton.jit
def _bordered(cell, width):
    return (cell // width + 1) * (width + 2) + cell % width + 1


@triton.jit
def _draw(
    thresholds_ptr, table_ptr, label_ptr, costs_ptr, n, width, seed, t, row, STEPS: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """Costs of sampled maps to scratch; what the cells of the label cost."""
    label_cost = tl.zeros(t.shape, tl.int32)
    table = ()
    for v in tl.static_range(STEPS + 1):
        table = table + (tl.load(table_ptr + v),)
    for block in range(tl.cdiv(n, 4)):
        words = positive_words(seed, block, t, row)
        for j in tl.static_range(4):
            i = tl.minimum(block * 4 + j, n - 1)
            cost = tl.zeros(t.shape, tl.int32) + table[0]
            for v in tl.static_range(STEPS):
                cost = tl.where(words[j] > tl.load(thresholds_ptr + i * STEPS + v), table[v + 1], cost)
            inside = n > block * 4 + j
            label_cost += tl.where(inside & (tl.load(label_ptr + i) != 0), cost, 0)
            # Costs of the border are never read.
            tl.store(costs_ptr + tl.where(inside, _bordered(i, width), 0) * TILE, cost)
    return label_cost


@triton.jit(do_not_specialize=["batch", "n_samples", "tiles", "seed", "first_row", "first_sample"])
def score_kernel(
    thresholds_ptr, table_ptr, label_ptr, start_ptr, goal_ptr, scores_ptr, scratch_ptr, batch, height, width,
    n_samples, tiles, seed, first_row, first_sample, STEPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Draws maps, measures them and follows their paths. A task is one of the tiles of samples of one row.

    Grid (programs,), task after task. thresholds [batch, n, STEPS], label [batch, n], scores [4, batch, n_samples].
    """
    n = height * width
    side = width + 2
    lanes = tl.arange(0, TILE)
    costs_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * (2 * (height + 2) * side * TILE) + lanes
    d_ptr = costs_ptr + (height + 2) * side * TILE
    for task in range(tl.program_id(0), batch * tiles, tl.num_programs(0)):
        row = (task // tiles).to(tl.int64)
        sample = task % tiles * TILE + lanes
        mask_ptr = label_ptr + row * n
        label_cost = _draw(
            thresholds_ptr + row * (n * STEPS), table_ptr, mask_ptr, costs_ptr, n, width, seed, first_sample + sample,
            first_row.to(tl.int64) + row, STEPS, TILE,
        )  # fmt: skip
        tl.debug_barrier()
        zero = tl.zeros((TILE,), tl.int32)
        start = zero + _bordered(tl.load(start_ptr + row), width)
        goal = zero + _bordered(tl.load(goal_ptr + row), width)
        _measure(costs_ptr, d_ptr, height, width, start, goal, TILE)

        cell = goal
        row_of_map = goal // side - 1
        length = zero + 1
        # Rows of the map are shorter than those of the scratch by two.
        shared = tl.load(mask_ptr + (cell - side - 1 - 2 * row_of_map)).to(tl.int32)
        going = tl.max((cell != start).to(tl.int32), 0)
        while going > 0:
            active = cell != start
            cell, row_of_map = _step_back(costs_ptr, d_ptr, side, cell, row_of_map, active, TILE)
            length += active.to(tl.int32)
            shared += tl.load(mask_ptr + (cell - side - 1 - 2 * row_of_map), mask=active, other=0).to(tl.int32)
            going = tl.max((cell != start).to(tl.int32), 0)
        out_ptr = scores_ptr + row * n_samples + sample
        step = batch.to(tl.int64) * n_samples
        tl.store(out_ptr, shared, mask=sample < n_samples)
        tl.store(out_ptr + step, length, mask=sample < n_samples)
        tl.store(out_ptr + 2 * step, tl.load(d_ptr + goal * TILE), mask=sample < n_samples)
        tl.store(out_ptr + 3 * step, label_cost, mask=sample < n_samples)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["batch"])
def path_kernel(
    all_costs_ptr, start_ptr, goal_ptr, mask_ptr, total_ptr, scratch_ptr, batch, height, width, TILE: tl.constexpr
):
    """Cheapest paths of TILE maps at a time.

    Grid (programs,), tile after tile. costs int32 and mask uint8 (zeros before) [batch, height, width], total [batch].
    """
    n = height * width
    side = width + 2
    lanes = tl.arange(0, TILE)
    costs_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * (2 * (height + 2) * side * TILE) + lanes
    d_ptr = costs_ptr + (height + 2) * side * TILE
    for tile in range(tl.program_id(0), tl.cdiv(batch, TILE), tl.num_programs(0)):
        row = (tile * TILE + lanes).to(tl.int64)
        inside = row < batch
        for i in range(n):
            cost = tl.load(all_costs_ptr + row * n + i, mask=inside, other=1)
            tl.store(costs_ptr + _bordered(i, width) * TILE, cost)
        tl.debug_barrier()
        start = _bordered(tl.load(start_ptr + row, mask=inside, other=0), width)
        goal = _bordered(tl.load(goal_ptr + row, mask=inside, other=0), width)
        _measure(costs_ptr, d_ptr, height, width, start, goal, TILE)
        tl.store(total_ptr + row, tl.load(d_ptr + goal * TILE), mask=inside)

        cell = goal
        row_of_map = goal // side - 1
        out_ptr = mask_ptr + row * n
        one = tl.full((TILE,), 1, tl.uint8)
        tl.store(out_ptr + (cell - side - 1 - 2 * row_of_map), one, mask=inside)
        going = tl.max((cell != start).to(tl.int32), 0)
        while going > 0:
            cell, row_of_map = _step_back(costs_ptr, d_ptr, side, cell, row_of_map, cell != start, TILE)
            tl.store(out_ptr + (cell - side - 1 - 2 * row_of_map), one, mask=inside)
            going = tl.max((cell != start).to(tl.int32), 0)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["batch", "n", "n_samples", "seed", "first_row", "first_sample"])
def histogram_kernel(
    thresholds_ptr, weights_ptr, total_ptr, batch, n, n_samples, seed, first_row, first_sample,
    STEPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The weights of all samples by the value of four symbols of one row; tiles without weight are skipped.

    Grid (batch * ceil(n / 4),). thresholds [batch, n, STEPS], weights int32 [batch, n_samples], total [batch, n, STEPS + 1].
    """
    blocks = tl.cdiv(n, 4)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    thresholds_ptr += row * (n * STEPS)
    total_ptr += row * (n * (STEPS + 1))
    for sample in range(0, n_samples, TILE):
        t = sample + tl.arange(0, TILE)
        weight = tl.load(weights_ptr + row * n_samples + t, mask=t < n_samples, other=0)
        if tl.max(weight, 0) > 0:
            words = positive_words(seed, block, first_sample + t, first_row.to(tl.int64) + row)
            for j in tl.static_range(4):
                i = block * 4 + j
                left = weight
                for v in tl.static_range(STEPS + 1):
                    beyond = tl.zeros((TILE,), tl.int32)
                    if v < STEPS:
                        threshold = tl.load(thresholds_ptr + tl.minimum(i, n - 1) * STEPS + v)
                        beyond = tl.where(words[j] > threshold, left, 0)
                    added = tl.sum(left - beyond, 0).to(tl.int64)
                    tl.atomic_add(total_ptr + i * (STEPS + 1) + v, added, mask=n > i, sem="relaxed")
                    left = beyond
