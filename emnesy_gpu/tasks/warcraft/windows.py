"""Windows of maps with a piece of the cheapest path in them.

A piece of a cheapest path is a cheapest path between its own ends, so a window around it is a smaller map with a label.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from emnesy_gpu.tasks.warcraft.maps import TILE, Maps

MARGIN = 2
"""Fewest cells of a window beyond the extent of its piece along a side, so that there are ways round."""

SHORTEST_PIECE = 6
"""Cells of a path that remain at least from where a piece begins, where the path has as many."""


def places(paths: Tensor) -> Tensor:
    """Return the place of every cell along its path from the first corner, 0, 1, ...; -1 off the path.

    uint8 [n, H, W] -> int64 [n, H, W]. A cheapest path of positive costs never touches itself, so its cells have an
    order.
    """
    place = torch.full(paths.shape, -1)
    front = torch.zeros_like(paths, dtype=torch.bool)
    front[:, 0, 0] = True
    step = 0
    while front.any():
        place[front] = step
        near = F.max_pool2d(front.float(), kernel_size=3, stride=1, padding=1) > 0
        front = near & (paths > 0) & (place < 0)
        step += 1
    return place


class Windows:
    """Draws windows of ``size`` x ``size`` cells around random pieces of the paths of some maps."""

    def __init__(self, maps: Maps, size: int) -> None:
        width = maps.paths.shape[-1]
        if not MARGIN + 2 <= size <= width:
            raise ValueError(f"windows of maps of size {width} have size {MARGIN + 2}..{width}, not {size}")
        self.maps, self.size = maps, size
        lengths = maps.paths.flatten(1).sum(1)
        order = places(maps.paths).flatten(1).sort(1).indices
        self.ways = [
            torch.stack([cells[-length:] // width, cells[-length:] % width], 1)
            for cells, length in zip(order, lengths.tolist(), strict=True)
        ]

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return pixels, classes, path masks, starts and goals [n, 2] of one window for each of the maps ``rows``."""
        found = [self._window(row, generator) for row in rows.tolist()]
        pixels, classes, masks, starts, goals = (torch.stack(column) for column in zip(*found, strict=True))
        return pixels, classes, masks, starts, goals

    def _window(self, row: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        piece = self._piece(self.ways[row], generator)
        low, high = piece.amin(0), piece.amax(0)
        nearest = (high - self.size + 1).clamp(min=0)
        farthest = torch.minimum(low, torch.tensor(self.maps.paths.shape[1:]) - self.size)
        shift = torch.rand(2, generator=generator) * (farthest - nearest + 1)
        top, left = (nearest + shift.long().minimum(farthest - nearest)).tolist()
        cells = slice(top, top + self.size), slice(left, left + self.size)
        pixels = tuple(slice(TILE * side.start, TILE * side.stop) for side in cells)
        inside = piece - torch.tensor([top, left])
        mask = torch.zeros(self.size, self.size, dtype=torch.uint8)
        mask[inside[:, 0], inside[:, 1]] = 1
        return self.maps.pixels[row][pixels], self.maps.classes[row][cells], mask, inside[0], inside[-1]

    def _piece(self, way: Tensor, generator: torch.Generator) -> Tensor:
        """Return the path from a random cell on, as far as it fits into a window with its margin."""
        last_start = max(1, len(way) - SHORTEST_PIECE + 1)
        way = way[int(torch.randint(last_start, (), generator=generator)) :]
        extent = way.cummax(0).values - way.cummin(0).values
        return way[: int((extent < self.size - MARGIN).all(1).sum())]
