"""What the cheapest path over a map says about its terrain."""

from __future__ import annotations

from typing import Any

import torch

import emnesy_gpu as em
from emnesy_gpu.tasks.warcraft.pictures import MapView, draw_maps
from emnesy_gpu.tasks.warcraft.synthetic import generate

SHARPNESS = 1.5
"""Logit of the true class; noise of deviation 1 stands on all."""


def path() -> Any:
    """Draw a synthetic map, read by a net that is often wrong, and the posterior given the cheapest path."""
    size, maps = 12, generate(12, n_maps=2).train
    problem, true = em.ShortestPath(size), maps.classes.long()
    torch.manual_seed(0)
    logits = SHARPNESS * torch.nn.functional.one_hot(true, 5) + torch.randn(len(maps), size, size, 5)
    post = em.posterior(problem, logits, maps.paths, em.ABC(samples=20_000, target_ess=100.0)).marginals
    predicted = logits.argmax(-1)
    paths, belief = problem.label(predicted), logits.softmax(-1)
    views = [
        MapView(
            f"map {row}",
            maps.pixels[row],
            predicted[row],
            maps.paths[row],
            paths[row],
            belief[row],
            post[row],
            true[row],
        )
        for row in range(len(maps))
    ]
    return draw_maps(views, "Synthetic maps: a noisy net, and its beliefs given the cheapest path (20,000 samples)")
