"""Random smooth deformations of small grey images, cheap enough for a CPU."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from emnesy_gpu.tasks.core.distributed import Part

CONTROL_POINTS = 4
"""Control points of the elastic displacement along a side of the image."""


@dataclass(frozen=True)
class Warp:
    """A random affine map and a random elastic displacement for every image, with bilinear interpolation.

    Lengths are in half image widths. The affine part draws each parameter uniformly from -limit..limit; the elastic
    part is a bicubic surface through 4 x 4 normal displacements in x and in y (a coarse form of Simard et al. 2003).
    Pixels from outside the image are 0, so apply it before the normalisation.

    All random numbers come from a CPU generator: the same draws on every device. One matrix product and one
    ``grid_sample``: about 4 microseconds per 28 x 28 image on one CPU thread.
    """

    rotation: float = 10.0
    """Largest angle, in degrees."""
    scale: float = 0.1
    shear: float = 0.15
    shift: float = 0.06
    elastic: float = 0.07
    """Standard deviation of a control point's displacement."""

    def scaled(self, strength: float) -> Warp:
        """Return the same kind of warp with every limit multiplied by ``strength``."""
        return Warp(**{name: strength * value for name, value in asdict(self).items()})

    def __call__(self, images: Tensor, generator: torch.Generator, part: Part | None = None) -> Tensor:
        """Warp float images [n, 1, height, width]; the result has the same shape and dtype.

        part: which part of a batch the images are; the random numbers of the whole batch are drawn. None: all.
        """
        n, _, height, width = images.shape
        first, total = (0, n) if part is None else part.among(n)
        coefficients = torch.cat([self._affine(total, generator), self._elastic(total, generator)], dim=-1)
        coefficients = coefficients[first : first + n]
        source = coefficients.to(images.device) @ _basis(height, width, images.device)
        grid = source.view(n, 2, height, width).movedim(1, -1)
        return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)

    def _affine(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw source x and y of every pixel as coefficients [n, 2, 3] of (x, y, 1)."""
        limits = torch.tensor([math.radians(self.rotation), *[self.scale] * 2, self.shear, *[self.shift] * 2])
        draws = (torch.rand(n, 6, generator=generator) * 2 - 1) * limits
        angle, scale_x, scale_y, shear, shift_x, shift_y = draws.unbind(1)
        scale_x, scale_y, cos, sin = 1 + scale_x, 1 + scale_y, angle.cos(), angle.sin()
        x = torch.stack([cos * scale_x, (shear - sin) * scale_y, shift_x], dim=1)
        y = torch.stack([sin * scale_x, cos * scale_y, shift_y], dim=1)
        return torch.stack([x, y], dim=1)

    def _elastic(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw displacements of the control points in x and y, [n, 2, 16]."""
        return torch.randn(n, 2, CONTROL_POINTS**2, generator=generator) * self.elastic


@lru_cache(maxsize=4)
def _basis(height: int, width: int, device: torch.device) -> Tensor:
    """Return [19, height * width]: x, y and 1 at every pixel centre, and the surface of each control point alone."""
    x, y = (((torch.arange(size) * 2 + 1) / size - 1) for size in (width, height))
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    units = torch.eye(CONTROL_POINTS**2).view(-1, 1, CONTROL_POINTS, CONTROL_POINTS)
    surfaces = F.interpolate(units, size=(height, width), mode="bicubic", align_corners=True).squeeze(1)
    return torch.cat([torch.stack([grid_x, grid_y, torch.ones_like(grid_x)]), surfaces]).flatten(1).to(device)
