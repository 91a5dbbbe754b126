"""Maps of Warcraft terrain in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 8
"""Pixels along a side of a cell."""

BYTES_PER_COUNT = 1 << 24
"""Pixel bytes whose values are counted at a time, so that the counts need little memory beside the maps."""


@dataclass(frozen=True)
class Maps:
    """Maps of ``size`` x ``size`` cells.

    pixels: uint8 [n, 8 * size, 8 * size, 3], red, green and blue. classes: uint8 [n, size, size], for evaluation alone,
    indices into the costs 0.8, 1.2, 5.3, 7.7, 9.2. paths: uint8 [n, size, size], 1 on a cheapest path between the first
    and the last cell.
    """

    pixels: Tensor
    classes: Tensor
    paths: Tensor

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class MapData:
    """Three disjoint sets of maps.

    data: "files" or "synthetic", how to load them again. origin: "original", "unverified" or "synthetic", what the maps
    are. source: the same in words.
    """

    size: int
    data: str
    origin: str
    source: str
    train: Maps
    valid: Maps
    test: Maps

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each channel of the training pixels, float32 [3], in units of 255."""
        counts = torch.zeros(3, 256, dtype=torch.float64)
        for part in self.train.pixels.split(max(1, BYTES_PER_COUNT // self.train.pixels[0].numel())):
            for channel in range(3):
                counts[channel] += torch.bincount(part[..., channel].flatten(), minlength=256)
        shares = counts / counts.sum(1, keepdim=True)
        values = torch.arange(256, dtype=torch.float64) / 255
        mean = shares @ values
        return mean.float(), ((shares @ values**2) - mean**2).sqrt().float()
