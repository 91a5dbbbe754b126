"""Random maps of terrain, and what a net might think of them."""

from __future__ import annotations

import torch
from torch import Tensor

import emnesy_gpu as em

GRASS, EARTH, FOREST, WATER, ROCK = range(5)
TABLES = {
    "terrain": (0.8, 1.2, 5.3, 7.7, 9.2),
    "many ties": (0.1, 0.2),
    "cells for nothing": (0.0, 0.0, 0.1, 2.0),
    "large": (0.1, 3000.0),
}


def random_maps(problem: em.ShortestPath, batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, problem.cardinality, (batch, *problem.latent_shape), generator=generator)


def soft_logits(z: Tensor, cardinality: int, gain: float = 2.0, seed: int = 0) -> Tensor:
    noise = torch.randn(*z.shape, cardinality, generator=torch.Generator().manual_seed(seed))
    return noise + gain * torch.nn.functional.one_hot(z, cardinality)


def some_cells(problem: em.ShortestPath, batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, side, (batch,), generator=generator) for side in problem.latent_shape], -1)
