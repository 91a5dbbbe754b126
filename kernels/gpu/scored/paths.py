"""Scores a map by its cheapest path: see emnesy_gpu.kernels.score_tables. A thread has a map of its own."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.grid_paths.maps import Maps, bordered, map_offset, measure, step_back
from emnesy_gpu.kernels.gpu.grid_paths.weighting import ON_PATH
from emnesy_gpu.kernels.gpu.scored.scores import value_of


@triton.jit
def _load_costs(maps, costs_ptr, symbols, n, WIDTH: tl.constexpr):
    """Store the costs of all cells."""
    for i in range(n):
        cost = tl.load(costs_ptr + value_of(symbols, i))
        tl.store(maps.costs + bordered(i, WIDTH) * symbols.LANES, cost)
    tl.debug_barrier()


@triton.jit
def _cells_off_label(row):
    """How many cells of a row are not on its label."""
    found = row.n
    for i in range(row.n):
        found -= (tl.load(row.label + i) & ON_PATH).to(tl.int32)
    return found


@triton.jit
def agreeing_cells(symbols, row, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """Cells that are on both path and label, or on neither."""
    HEIGHT: tl.constexpr = SIZES[0]
    WIDTH: tl.constexpr = SIZES[1]
    SIDE: tl.constexpr = WIDTH + 2
    costs_ptr, start_ptr, goal_ptr = row.tables
    zero = symbols.value * 0
    # A tensor: Triton 3.6 does not multiply a number by one of a tuple.
    n_bordered = tl.full((), (HEIGHT + 2) * SIDE, tl.int32)
    maps = Maps(row.scratch, row.scratch + n_bordered * symbols.LANES, HEIGHT, WIDTH, SIDE)
    _load_costs(maps, costs_ptr, symbols, row.n, WIDTH)
    start = zero + bordered(tl.load(start_ptr + row.number), WIDTH)
    cell = zero + bordered(tl.load(goal_ptr + row.number), WIDTH)
    measure(maps, start, cell, symbols.LANES)
    row_of_map = cell // SIDE - 1
    on_label = (tl.load(row.label + map_offset(maps, cell, row_of_map)) & ON_PATH).to(tl.int32)
    agreeing = _cells_off_label(row) + 2 * on_label - 1
    while tl.max((cell != start).to(tl.int32)) > 0:
        moves = cell != start
        cell, row_of_map = step_back(maps, cell, row_of_map, moves, symbols.LANES)
        on_label = (tl.load(row.label + map_offset(maps, cell, row_of_map)) & ON_PATH).to(tl.int32)
        agreeing += tl.where(moves, 2 * on_label - 1, 0)
    tl.debug_barrier()
    return agreeing
