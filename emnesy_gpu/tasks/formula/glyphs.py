"""Images of operators, drawn by this program: strokes with random place, slant, length and thickness.

They stand in for handwriting, which MNIST has of digits alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ORIGIN = "generated"
"""Where the images are from, for reports and summaries."""

OPERATORS = "+-*/"
"""The operators in the order of their classes; * is drawn as a slanted cross, and / as a bar between two dots."""

SIDE = 28
"""Pixels along a side, as in MNIST."""

BAR, POST = ((-1.0, 0.0), (1.0, 0.0)), ((0.0, -1.0), (0.0, 1.0))
RISING, FALLING = ((-0.75, 0.75), (0.75, -0.75)), ((-0.75, -0.75), (0.75, 0.75))
HIGH_DOT, LOW_DOT = ((0.0, -0.75), (0.0, -0.75)), ((0.0, 0.75), (0.0, 0.75))
STROKES = {"+": (BAR, POST, BAR), "-": (BAR, BAR, BAR), "*": (RISING, FALLING, RISING), "/": (BAR, HIGH_DOT, LOW_DOT)}
"""Operator -> both ends of its three strokes in half widths of the glyph; a repeated stroke is drawn once."""

HALF_WIDTH = (5.0, 8.5)
"""Bounds of half the width and half the height of a glyph, in pixels."""

SLANT, SHIFT, WOBBLE = math.radians(10), 2.0, 0.06
"""Largest angle and largest shift in pixels, and the deviation of every end in half widths."""

PEN = (0.7, 1.7)
"""Bounds of half the thickness of a stroke, in pixels."""

GLYPHS_AT_A_TIME = 1024
"""Bounds the memory of a drawing to about 10 MB."""


def draw(classes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw an operator for every class int64 [n] in 0..3: grey images uint8 [n, 28, 28], light on black as in MNIST.

    The same state of the generator gives the same images.
    """
    ends, pens = _strokes(classes, generator)
    parts = zip(ends.split(GLYPHS_AT_A_TIME), pens.split(GLYPHS_AT_A_TIME), strict=True)
    return torch.cat([_ink(*part) for part in parts]) if len(classes) else torch.empty(0, SIDE, SIDE, dtype=torch.uint8)


def _strokes(classes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the ends of all strokes [n, 3, 2, 2] as x and y in pixels, and half their thickness [n]."""
    n = len(classes)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    shapes = torch.tensor([STROKES[operator] for operator in OPERATORS])[classes]
    places = shapes + WOBBLE * torch.randn(shapes.shape, generator=generator)
    angle = uniform(-SLANT, SLANT)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 1, 2, 2)
    size, centre = uniform(*HALF_WIDTH, 1, 1, 2), SIDE / 2 + uniform(-SHIFT, SHIFT, 1, 1, 2)
    return centre + (places * size) @ turn, uniform(*PEN)


def _ink(ends: Tensor, pen: Tensor) -> Tensor:
    """Return the images of strokes: full ink up to half the thickness, and none one pixel further on."""
    centres = torch.arange(SIDE) + 0.5
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).view(1, 1, -1, 2)
    first, along = ends[:, :, :1], ends[:, :, 1:] - ends[:, :, :1]
    from_first = pixels - first
    share = (from_first * along).sum(-1, keepdim=True) / along.square().sum(-1, keepdim=True).clamp(min=1e-6)
    distance = (from_first - share.clamp(0, 1) * along).norm(dim=-1).amin(1)
    ink = (pen[:, None] + 0.5 - distance).clamp(0, 1)
    return (ink * 255).round().to(torch.uint8).view(-1, SIDE, SIDE)
