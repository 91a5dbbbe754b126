"""Synthetic maps of terrain in the layout of the Warcraft maps, for machines without the published files."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

import emnesy_gpu as em
from emnesy_gpu.tasks.warcraft.maps import TILE, MapData, Maps

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

N_MAPS = {12: (2000, 500, 1000), 18: (2000, 300, 500), 24: (1500, 300, 500), 30: (1200, 300, 500)}
"""Training, validation and test maps by size."""

OBSTACLES = 0.45
"""Share of cells that are forest, water or rock."""

BASE_COLOURS = np.array([[66, 98, 40], [98, 86, 42], [48, 80, 34], [46, 72, 78], [84, 80, 66]], dtype=np.float32)
"""Grass, earth, forest, water, rock: close together, as in the game."""

VARIANTS = 12
"""Textures of a class."""

PATTERN, PIXEL_NOISE, BRIGHTNESS, VARIANT_TINT = 11.0, 6.0, 2.5, 6.0
"""Amplitudes in units of a byte."""

GAIN, TINT = 0.12, 0.04
"""Half widths of the brightness and of the colour cast of a whole map."""

BEND, JITTER = 1.2, 0.8
"""Pixels by which the borders of cells are bent, and by which each pixel is off."""

KNOT = TILE // 2
"""Pixels between the knots of the bend."""


def generate(size: int, n_maps: int | None = None, seed: int = 0) -> MapData:
    """Make maps: terrain from smooth random fields, textures with bent borders, labels by ``em.ShortestPath``.

    Map i of a part depends on size, seed, part and i alone, not on how many maps there are. A net that sees one cell at
    a time cannot be perfect, as the textures overlap and cross the borders of cells.

    Args:
        size: cells along a side.
        n_maps: training maps; None takes those of ``N_MAPS``. There are as many validation and test maps as it says,
            but no more than training maps.
        seed: seed of all random numbers, at least 0.
    """
    defaults = N_MAPS.get(size, N_MAPS[30])
    n_train = defaults[0] if n_maps is None else n_maps
    counts = (n_train, min(defaults[1], n_train), min(defaults[2], n_train))
    parts = [_part(size, count, seed, part) for part, count in enumerate(counts)]
    return MapData(size, "synthetic", "synthetic", f"synthetic Warcraft-like maps {size}x{size}, seed {seed}", *parts)


def _part(size: int, n_maps: int, seed: int, part: int) -> Maps:
    pixels = np.empty((n_maps, TILE * size, TILE * size, 3), dtype=np.uint8)
    classes = np.empty((n_maps, size, size), dtype=np.uint8)
    textures = make_textures()
    for row in range(n_maps):
        rng = np.random.default_rng([size, seed, part, row])
        classes[row] = terrain(rng, size)
        pixels[row] = render(rng, classes[row], textures)
    maps = torch.from_numpy(classes)
    return Maps(torch.from_numpy(pixels), maps, em.ShortestPath(size).label(maps))


def terrain(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw classes [size, size]: about a third grass, a fifth earth, a seventh each of forest, water and rock."""
    obstacle, soil, rocky, wet = (smooth_field(rng, size, width) for width in (1.0, 1.6, 1.6, 1.6))
    walkable = np.where(soil > 0.25, 1, 0)
    blocked = np.where(rocky > 0.35, 4, np.where(wet > 0, 2, 3))
    return np.where(obstacle > NormalDist().inv_cdf(1 - OBSTACLES), blocked, walkable).astype(np.uint8)


def smooth_field(rng: np.random.Generator, size: int, width: float) -> Floats:
    """Draw normal numbers [size, size] with variance 1, correlated over ``width`` cells."""
    weights = _smoothing(size, width)
    noise = rng.standard_normal((weights.shape[1], weights.shape[1]), dtype=np.float32)
    return np.asarray(weights @ noise @ weights.T, dtype=np.float32)


@lru_cache(maxsize=16)
def _smoothing(size: int, width: float) -> Floats:
    """Return a Gaussian for each cell over the cells around, [size, size + 2 * reach], squares summing to 1."""
    reach = int(3 * width + 1)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    weights = np.zeros((size, size + 2 * reach), dtype=np.float32)
    for cell in range(size):
        weights[cell, cell : cell + 2 * reach + 1] = bell / np.sqrt((bell**2).sum())
    return weights


@lru_cache(maxsize=1)
def make_textures() -> Floats:
    """Return variants of every class, [5, VARIANTS, 8, 8, 3]: the same ones for all maps."""
    rng = np.random.default_rng(5)
    textures = np.empty((5, VARIANTS, TILE, TILE, 3), dtype=np.float32)
    for variant in range(VARIANTS):
        for kind, pattern in enumerate(_patterns(rng)):
            colour = BASE_COLOURS[kind]
            shade = PATTERN * pattern[..., None] * colour / colour.mean()
            textures[kind, variant] = colour + shade + VARIANT_TINT * rng.standard_normal(3)
    return textures


def _patterns(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Draw fine noise, speckle, blobs, waves and cracks, [8, 8] each."""
    noise = rng.standard_normal((5, TILE, TILE))
    blobs = np.stack([np.roll(noise, shift, (1, 2)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))]).sum(0) / 2
    speckle = noise[1] * (rng.random((TILE, TILE)) < 0.5)
    waves = np.sin(2 * np.pi * (np.arange(TILE)[:, None] / 4 + rng.random()))
    return [
        0.5 * noise[0] + 0.3 * blobs[0],
        0.8 * speckle,
        1.3 * blobs[2],
        0.8 * waves + 0.4 * noise[3],
        0.9 * np.sign(blobs[4]) + 0.3 * noise[4],
    ]


def render(rng: np.random.Generator, classes: NDArray[np.uint8], textures: Floats) -> NDArray[np.uint8]:
    """Draw a picture [8 * size, 8 * size, 3] of classes [size, size].

    Every pixel shows the texture a little off its own place, so that cells run into one another.
    """
    size = len(classes)
    side = TILE * size
    offset = bend(rng, side) + rng.uniform(-JITTER, JITTER, (2, side, side)).astype(np.float32)
    rows, columns = np.rint(np.indices((side, side), dtype=np.float32) + offset).astype(np.int32).clip(0, side - 1)
    cells = rows // TILE * size + columns // TILE
    kinds = classes * VARIANTS + rng.integers(VARIANTS, size=(size, size))
    texels = (kinds.ravel()[cells] * TILE + rows % TILE) * TILE + columns % TILE
    brightness = BRIGHTNESS * rng.standard_normal(size * size, dtype=np.float32)
    shown = textures.reshape(-1, 3).take(texels, axis=0) + brightness[cells][..., None]
    light = (1 + rng.uniform(-GAIN, GAIN)) * (1 + rng.uniform(-TINT, TINT, 3))
    noise = PIXEL_NOISE * rng.standard_normal((side, side, 3), dtype=np.float32)
    return (light.astype(np.float32) * shown + noise).clip(0, 255).astype(np.uint8)


def bend(rng: np.random.Generator, side: int) -> Floats:
    """Draw a smooth displacement in rows and columns, [2, side, side]: bilinear between random knots."""
    weights = _interpolation(side)
    knots = rng.uniform(-BEND, BEND, (2, weights.shape[1], weights.shape[1])).astype(np.float32)
    return np.asarray(weights @ knots @ weights.T, dtype=np.float32)


@lru_cache(maxsize=4)
def _interpolation(side: int) -> Floats:
    """Return the weights of linear interpolation from knots to pixels, [side, knots]."""
    position = np.arange(side) / KNOT
    below = position.astype(np.int64)
    weights = np.zeros((side, side // KNOT + 1), dtype=np.float32)
    weights[np.arange(side), below] = 1 - (position - below)
    weights[np.arange(side), below + 1] = position - below
    return weights
