"""Cheapest paths, and samples of them, on maps of three and five classes. All results are integers.

The kernels of the first two hold a map in a thread and are made for one warp: no variants of them, but every target.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from emnesy_gpu.inference.importance import thresholds
from tests.kernel_registry.entry import Entry

TERRAIN = torch.tensor([8, 12, 53, 77, 92], dtype=torch.int32)


def _ends(batch: int, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The corners for the first row, any cells for the others."""
    start, goal = torch.randint(0, n, (2, batch), generator=generator, dtype=torch.int32)
    start[0], goal[0] = 0, n - 1
    return start, goal


def _patches(batch: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Maps of classes in patches of 3 x 3 cells."""
    z = torch.randint(0, len(TERRAIN), (batch, -(-height // 3), -(-width // 3)), generator=generator)
    return z.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, :height, :width]


def _shortest_path(height: int, width: int, batch: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    costs = TERRAIN[torch.randint(0, 3, (batch, height, width), generator=generator)]
    return costs, *_ends(batch, height * width, generator)


def _score(height: int, width: int, n_samples: int, batch: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    n, z = height * width, _patches(batch, height, width, generator)
    prior = torch.full((batch, n, len(TERRAIN)), 0.05).scatter_(-1, z.reshape(batch, n, 1), 0.8)
    mask = (torch.rand(batch, height, width, generator=generator) < 0.3).to(torch.uint8)
    start, goal = _ends(batch, n, generator)
    return thresholds(prior.log()), TERRAIN, mask, start, goal, n_samples, 7, 2**32 - 1, 3


def _histogram(n: int, n_samples: int, batch: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(batch, n, 5, generator=generator)
    logits[0, 0, 0] = float("-inf")
    weights = torch.randint(0, 1 << 24, (batch, n_samples), generator=generator, dtype=torch.int32)
    weights[:, 32:64] = 0
    return thresholds(logits), weights, 7, 2**32 - 1, 3


def _changes(height: int, width: int, n_samples: int, batch: int) -> tuple[Any, ...]:
    """Weights that tell all numbers of differing cells apart."""
    arguments = _score(height, width, n_samples, batch)
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(batch, 2 * height * width + 1, dtype=torch.float64, generator=generator)
    return *arguments[:5], weights, *arguments[5:]


def _posterior(how: tuple[str, str], target_ess: float, changes: bool) -> tuple[Any, ...]:
    """Marked and unmarked ends, an invalid label, and a row with hard zeros."""
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(5, 12, len(TERRAIN), generator=generator)
    label = (torch.rand(5, 3, 4, generator=generator) < 0.4).long()
    label[1, 0, 1] += 2
    label[1, 2, 2] += 4
    label[2, 1, 1] += 2
    logits[4, 0, 1:] = float("-inf")
    costs, n = 32 * TERRAIN, 12
    scores = torch.arange(-2.0 * n, 1.0) if how == ("cells", "exponential") else torch.arange(-16384.0, 1.0) / 10
    if how[1] == "exact":
        scores = torch.tensor([float("-inf"), 0.0])
    if how[1] == "fraction":
        scores = (torch.arange(16385, dtype=torch.float64) / 16384).log()
    return logits, label, costs, 32, how, scores.double(), (70, 0.5, target_ess), 7, 2**32 - 1, changes


def _posterior_entry(
    score: str, weighting: str, target_ess: float = 0.0, changes: bool = False, **options: Any
) -> Entry:
    draw = partial(_posterior, (score, weighting), target_ess, changes)
    name = f"{score} {weighting}{' target ESS' * (target_ess > 0)}{' Rao-Blackwellised' * changes}"
    return Entry("grid_paths", "posterior", name, draw, interpreted=False, **options)


ENTRIES = [
    _posterior_entry("cells", "exponential", every_target=True),
    _posterior_entry("cells", "exponential", 20.0),
    _posterior_entry("cells", "exact"),
    _posterior_entry("cells", "fraction", slow=True),
    _posterior_entry("cost", "fraction", slow=True),
    _posterior_entry("cost", "exponential", 20.0, slow=True),
    Entry(
        "grid_paths", "shortest_path", "3x4", partial(_shortest_path, 3, 4, 37), n_row_arguments=3, every_target=True
    ),
    Entry("grid_paths", "score", "3x4", partial(_score, 3, 4, 35, 2), n_row_arguments=1, every_target=True),
    Entry(
        "grid_paths",
        "histogram_of_changes",
        "3x4",
        partial(_changes, 3, 4, 35, 2),
        1e-12,
        1e-12,
        n_row_arguments=1,
        every_target=True,
    ),
    _posterior_entry("cells", "exponential", 20.0, True),
    Entry("grid_paths", "histogram", "n=6", partial(_histogram, 6, 70, 3), variants=True),
    Entry("grid_paths", "score", "12x12", partial(_score, 12, 12, 32, 1), slow=True, interpreted=False),
    Entry("grid_paths", "score", "30x30", partial(_score, 30, 30, 32, 1), slow=True, interpreted=False),
]
