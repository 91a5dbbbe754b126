"""Samples from the prior, counted and weighted by the constraints that they satisfy, in plain torch.

Symbol i of sample t of row r takes word i % 4 of Philox-4x32-10 with counter (i // 4, t, r) and the seed as key,
without its lowest bit. Its value is the number of its thresholds that this word exceeds. A constraint is a set of
symbols, and is satisfied if their values are all different.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.kernels.sampling_plan import WORD_BITS
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, POSSIBLE
from emnesy_gpu.philox import MASK, philox_words
from emnesy_gpu.reference.symbols import result_dtype

SKIP, COUNT, WEIGH = range(3)
"""The work on a row: none, count its samples by score, or add up their weights too."""


def thresholds(logits: Tensor) -> Tensor:
    """Thresholds int32 [..., K - 1] of a word in [0, 2^31): thresholds[v - 1] < word <= thresholds[v] draws value v.

    They are the cumulative prior, rounded to multiples of 2^-31. Hard zeros are never drawn.
    """
    high = logits.amax(-1, keepdim=True).double()
    cumulative = (logits.double() - high).exp_().cumsum(-1)
    scale = 2.0**WORD_BITS / cumulative[..., -1:]
    return (cumulative[..., :-1] * scale).nan_to_num_(0.0).round_().sub_(1.0).to(torch.int32)


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


def posterior(
    logits: Tensor,
    label: Tensor,
    exponents: Tensor,
    tables: tuple[Tensor, Tensor],
    plan: tuple[int, int, float, float],
    seed: int,
    first_row: int,
) -> tuple[Tensor, ...]:
    """Marginals, log evidence, status, effective sample size, sharpness, samples with the label, in float64.

    logits: [batch, N, K]. exponents: float64 [R, width], the log weight of each score at sharpness 1, given label 1;
    given label 0 all samples have weight 1 but those in the last column. tables: constraints and incident, see
    ``weigh``. plan: samples, samples of a pilot (of no effect here), sharpness, target effective sample size (0: none).
    """
    n_samples, _, sharpness, target = plan
    prior = torch.softmax(logits.double(), -1)
    thresholds = (prior.cumsum(-1)[..., :-1] * 2.0**31).round().sub(1.0).to(torch.int32)
    invalid = torch.zeros_like(exponents)
    invalid[:, -1] = -torch.inf
    exponents = torch.where((label == 0)[:, None, None], invalid, exponents)
    work = torch.full((len(logits),), WEIGH, dtype=torch.uint8)
    numbers = n_samples, seed, first_row, 0
    counts, _ = weigh(thresholds, torch.zeros_like(exponents, dtype=torch.int32), work, *tables, *numbers)
    level = torch.full((len(logits),), sharpness, dtype=torch.float64)
    if target > 0:
        level = _sharpness(exponents, counts, target)
    size, log_mean, relative = _sizes(exponents, counts, level)
    weights = (relative * (2**24 - 1)).round().to(torch.int32)
    _, histogram = weigh(thresholds, weights, work, *tables, *numbers)
    outside = (label < 0) | (label > 1)
    some = (histogram.sum(-1) > 0).all(1) & ~outside
    marginals = torch.where(some[:, None, None], histogram / histogram.sum(-1, keepdim=True), prior)
    status = torch.where(outside, INVALID_LABEL, torch.where(some, POSSIBLE, IMPOSSIBLE))
    matches = torch.where(label == 0, n_samples - counts[:, 0, -1], counts[:, 0, -1])
    dtype = result_dtype(logits)
    log_mean = torch.where(some, log_mean, -torch.inf)
    results = (value.to(dtype) for value in (marginals, log_mean))
    return *results, status.to(torch.uint8), size.to(dtype), level.to(dtype), matches


def _sizes(exponents: Tensor, counts: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least effective sample size, the mean log of the mean weight, weights relative to the best sample."""
    log_weights = torch.where(exponents > -torch.inf, exponents * level[:, None, None], -torch.inf)
    best = torch.where(counts > 0, log_weights, -torch.inf).amax(-1, keepdim=True)
    best = best.masked_fill(best == -torch.inf, 0.0)
    relative = (log_weights - best).clamp(max=0.0).exp()
    total, squares = (counts * relative).sum(-1), (counts * relative.square()).sum(-1)
    log_mean = total.log() + best[..., 0] - counts.sum(-1).double().log()
    return (total.square() / squares.clamp_min(1e-300)).amin(-1), log_mean.mean(-1), relative


def _sharpness(exponents: Tensor, counts: Tensor, target: float) -> Tensor:
    """The largest sharpness in 2^-10..2^20 with at least the target effective sample size, by bisection, or 0."""
    found = torch.full((len(counts),), -10.0, dtype=torch.float64)
    for halving in range(1, 26):
        higher = found + 30.0 / 2**halving
        found = torch.where(_sizes(exponents, counts, higher.exp2())[0] >= target, higher, found)
    every = _sizes(exponents, counts, torch.full_like(found, 2.0**20))[0] >= target
    none = _sizes(exponents, counts, torch.full_like(found, 2.0**-10))[0] < target
    return torch.where(none, 0.0, torch.where(every, 20.0, found).exp2())
