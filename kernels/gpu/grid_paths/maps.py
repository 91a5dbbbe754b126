"""Measures maps: d(cell) = cost(cell) + min d(neighbour), by sweeps over the rows until no distance falls any more.

A program is one warp, and a thread has a map of its own: they meet at the ends of loops alone. Costs and distances of a
tile of maps, a row of TILE for every cell and for a border of cells around them, lie in scratch memory that a program
uses again for every tile. Cells are named by their rows there. Sums of costs are below UNREACHABLE, and twice that
fits.
"""

from typing import NamedTuple

import triton
import triton.language as tl

UNREACHABLE = tl.constexpr(1 << 30)


class Maps(NamedTuple):
    """Where a program keeps a tile of maps; pointers [TILE], cells are TILE apart."""

    costs: object  # int32 [(height + 2) * side]
    distances: object  # int32 [(height + 2) * side]
    height: object
    width: object
    side: object  # width + 2


@triton.jit
def maps_of(scratch_ptr, height, width, TILE: tl.constexpr):
    """The part of the scratch memory that belongs to this program."""
    side = width + 2
    lanes = tl.arange(0, TILE)
    costs_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * (2 * (height + 2) * side * TILE) + lanes
    return Maps(costs_ptr, costs_ptr + (height + 2) * side * TILE, height, width, side)


@triton.jit
def _relax_row(maps, first, before, bound, TILE: tl.constexpr):
    """Relax the cells from ``first`` on from those from ``before`` on, then from the left, then from the right.

    Afterwards no step within the row is worth taking. Positive where some distance fell to something below the bound.
    """
    before_ptr = maps.distances + before * TILE
    here_ptr = maps.distances + first * TILE
    cost_ptr = maps.costs + first * TILE
    behind = tl.full(bound.shape, UNREACHABLE, tl.int32)
    left = behind
    beside = tl.load(before_ptr)
    improved = tl.zeros(bound.shape, tl.int32)
    for _ in range(maps.width):
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
    for _ in range(maps.width):
        here_ptr -= TILE
        cost_ptr -= TILE
        old = tl.load(here_ptr)
        right = tl.minimum(old, right + tl.load(cost_ptr))
        improved = tl.maximum(improved, tl.minimum(old, bound) - right)
        tl.store(here_ptr, right)
    return tl.max(improved)


@triton.jit
def measure(maps, start, goal, TILE: tl.constexpr):
    """Distances: the cost of the cheapest path from start [TILE] to each cell, exact where no farther than the goal."""
    height = maps.height
    side = maps.side
    nowhere = tl.full(start.shape, UNREACHABLE, tl.int32)
    for cell in range((height + 2) * side):
        tl.store(maps.distances + cell * TILE, nowhere)
    tl.debug_barrier()
    tl.store(maps.distances + start * TILE, tl.load(maps.costs + start * TILE))
    tl.debug_barrier()
    # Bits of rows that have yet to be relaxed from the row before them, and from the row after them.
    one = tl.full((), 1, tl.int64)
    rows = (one << (height + 1)) - 2
    here = rows
    there = rows
    way = 1
    while (here | there) != 0:
        bound = tl.load(maps.distances + goal * TILE)
        for step in range(height):
            r = tl.where(way > 0, step + 1, height - step)
            if ((here >> r) & 1) != 0:
                here &= ~(one << r)
                if _relax_row(maps, r * side + 1, (r - way) * side + 1, bound, TILE) > 0:
                    here |= (one << (r + way)) & rows
                    there |= (one << (r - way)) & rows
        tl.debug_barrier()
        turned = here
        here = there
        there = turned
        way = -way


@triton.jit
def step_back(maps, cell, row, active, TILE: tl.constexpr):
    """The cell before a cell on the way from the start, and its row, for active lanes [TILE]; the others stay."""
    wanted = tl.load(maps.distances + cell * TILE) - tl.load(maps.costs + cell * TILE)
    offset = tl.zeros(cell.shape, tl.int32)
    down = offset
    for place in tl.static_range(8, -1, -1):
        if place != 4:
            here = (place // 3 - 1) * maps.side + place % 3 - 1
            fits = tl.load(maps.distances + (cell + here) * TILE, mask=active, other=-1) == wanted
            offset = tl.where(fits, here, offset)
            down = tl.where(fits, place // 3 - 1, down)
    return cell + offset, row + down


@triton.jit
def bordered(cell, width):
    """The cell of the map [height, width] as a row of the scratch memory."""
    return (cell // width + 1) * (width + 2) + cell % width + 1


@triton.jit
def map_offset(maps, cell, row):
    """Where a cell of a row of the map lies in [height * width]; rows of the scratch are longer by two."""
    return cell - maps.side - 1 - 2 * row
