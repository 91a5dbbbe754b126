"""Finds the cheapest paths of maps."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.grid_paths.maps import bordered, map_offset, maps_of, measure, step_back


@triton.jit(do_not_specialize=["batch"])
def path_kernel(
    all_costs_ptr, start_ptr, goal_ptr, mask_ptr, total_ptr, scratch_ptr, batch, height, width, TILE: tl.constexpr
):
    """Cheapest paths of TILE maps at a time.

    Grid (programs,), tile after tile. costs int32 and mask uint8 (zeros before) [batch, height, width], total [batch].
    """
    n = height * width
    maps = maps_of(scratch_ptr, height, width, TILE)
    lanes = tl.arange(0, TILE)
    for tile in range(tl.program_id(0), tl.cdiv(batch, TILE), tl.num_programs(0)):
        row = (tile * TILE + lanes).to(tl.int64)
        inside = row < batch
        for i in range(n):
            cost = tl.load(all_costs_ptr + row * n + i, mask=inside, other=1)
            tl.store(maps.costs + bordered(i, width) * TILE, cost)
        tl.debug_barrier()
        start = bordered(tl.load(start_ptr + row, mask=inside, other=0), width)
        goal = bordered(tl.load(goal_ptr + row, mask=inside, other=0), width)
        measure(maps, start, goal, TILE)
        tl.store(total_ptr + row, tl.load(maps.distances + goal * TILE), mask=inside)

        cell = goal
        row_of_map = goal // maps.side - 1
        out_ptr = mask_ptr + row * n
        one = tl.full((TILE,), 1, tl.uint8)
        tl.store(out_ptr + map_offset(maps, cell, row_of_map), one, mask=inside)
        going = tl.max((cell != start).to(tl.int32), 0)
        while going > 0:
            cell, row_of_map = step_back(maps, cell, row_of_map, cell != start, TILE)
            tl.store(out_ptr + map_offset(maps, cell, row_of_map), one, mask=inside)
            going = tl.max((cell != start).to(tl.int32), 0)
        tl.debug_barrier()
