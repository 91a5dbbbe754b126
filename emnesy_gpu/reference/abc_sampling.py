"""Samples from the prior, counted by the constraints that they satisfy, in plain torch. All results are integers.

Symbol i of sample t of row r takes word i % 4 of Philox-4x32-10 with counter (i // 4, t, r) and the seed as key,
without its lowest bit. Its value is the number of its thresholds that this word exceeds. A constraint is a set of
symbols, and is satisfied if their values are all different.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.philox import MASK, philox_words

SKIP, COUNT, WEIGH = range(3)
"""The work on a row: none, count its samples by score, or add up their weights too."""


def draw(thresholds: Tensor, n_samples: int, seed: int, first_row: int, first_sample: int) -> Tensor:
    """Samples int64 [n_samples, batch, N] from int32 thresholds [batch, N, K - 1]."""
    batch, n, _ = thresholds.shape
    device = thresholds.device
    positions = torch.arange(-(-n // 4), device=device)
    samples = torch.arange(first_sample, first_sample + n_samples, device=device)[:, None, None]
    rows = torch.arange(first_row, first_row + batch, device=device)[:, None]
    four = philox_words((positions, samples, rows & MASK, rows >> 32), seed)
    words = torch.stack(four, -1).flatten(-2)[..., :n] >> 1
    return (words[..., None] > thresholds).sum(-1)


def weigh(
    thresholds: Tensor,
    weights: Tensor,
    work: Tensor,
    constraints: Tensor,
    incident: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> tuple[Tensor, Tensor]:
    """Counts int64 [batch, R, width] of the samples per score, and weighted histogram int64 [batch, N, K].

    weights: int32 [batch, R, width] in 0..2^24 - 1.
    work: uint8 [batch], SKIP (counts and histogram are 0), COUNT (the histogram is 0) or WEIGH.
    constraints: int32 [C, W], the symbols of each constraint, padded with -1.
    incident: int32 [R, D], the constraints that score row r has, padded with -1. There is one score row for each
        symbol, or one for all symbols, which has every constraint; then D is 0.

    The last column counts the samples that satisfy every constraint, column s < width - 1 the others that satisfy s.
    """
    batch, n, k = thresholds.shape[0], thresholds.shape[1], thresholds.shape[2] + 1
    z = draw(thresholds, n_samples, seed, first_row, first_sample)
    satisfied = _satisfied(z, constraints)
    if incident.shape[1] == 0:
        score = satisfied.sum(-1, keepdim=True)
    else:
        score = torch.stack([satisfied[..., row[row >= 0]].sum(-1) for row in incident.long()], -1)
    score = torch.where(satisfied.all(-1, keepdim=True), weights.shape[-1] - 1, score).movedim(0, -1)
    counts = torch.zeros(weights.shape, dtype=torch.int64, device=z.device)
    counts.scatter_add_(-1, score, torch.ones_like(score) * (work >= COUNT)[:, None, None])
    weight = weights.long().gather(-1, score) * (work == WEIGH)[:, None, None]
    histogram = torch.zeros(batch, n, k, dtype=torch.int64, device=z.device)
    histogram.scatter_add_(-1, z.movedim(0, -1), weight.expand(batch, n, n_samples))
    return counts, histogram


def _satisfied(z: Tensor, constraints: Tensor) -> Tensor:
    """Whether each sample satisfies each constraint, int64 [n_samples, batch, C] of 0 and 1."""
    satisfied = torch.zeros(*z.shape[:-1], len(constraints), dtype=torch.int64, device=z.device)
    for index, row in enumerate(constraints.tolist()):
        members = [i for i in row if i >= 0]
        values = z[..., members].sort(-1).values
        satisfied[..., index] = (values[..., 1:] != values[..., :-1]).all(-1)
    return satisfied
