"""Exact joint samples given label 0, where the valid assignments are listed."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.philox import MASK, philox_words

LISTED_AT_A_TIME = 1 << 22
"""Booleans that are held at a time, one for each sample, row and listed assignment."""


def sample_invalid(logits: Tensor, assignments: Tensor, n_samples: int, seed: int, rows: Tensor) -> Tensor:
    """Draw exact samples z ~ p(z | not valid), int64 [n_samples, batch, N], symbol by symbol.

    p(z_i = v | z_<i, not valid) is proportional to p_i(v) (1 - V), where V is the probability that the symbols after i
    complete (z_<i, v) to one of the assignments. The draw of symbol i takes the first word of the Philox counter
    (i, sample, row). Where only valid assignments have positive probability, the symbols follow their prior.

    logits: [batch, N, K]. assignments: all valid ones, [M, N]. rows: int64 [batch], the global indices of the rows.
    """
    step = max(1, LISTED_AT_A_TIME // max(1, len(assignments) * len(logits)))
    samples = torch.arange(n_samples, device=logits.device)
    parts = [_some_samples(logits, assignments, some, seed, rows) for some in samples.split(step) if n_samples]
    return torch.cat(parts) if parts else torch.empty(0, *logits.shape[:2], dtype=torch.int64, device=logits.device)


def _some_samples(logits: Tensor, assignments: Tensor, samples: Tensor, seed: int, rows: Tensor) -> Tensor:
    batch, n, cardinality = logits.shape
    log_prior = torch.log_softmax(logits.double(), -1)
    prior, listed = log_prior.exp(), assignments.long()
    chosen = log_prior[:, torch.arange(n, device=logits.device), listed]
    completed = chosen.flip(-1).cumsum(-1).flip(-1)
    following = torch.nn.functional.pad(completed[..., 1:], (0, 1)).exp()
    sample, row = samples[:, None], rows[None]
    alive = torch.ones(len(samples), batch, len(listed), dtype=torch.bool, device=logits.device)
    z = torch.empty(len(samples), batch, n, dtype=torch.int64, device=logits.device)
    for i in range(n):
        completing = alive * following[..., i]
        one_hot = torch.nn.functional.one_hot(listed[:, i], cardinality).double()
        weights = prior[:, i] * (1.0 - completing @ one_hot).clamp_min(0.0)
        weights = torch.where(weights.sum(-1, keepdim=True) > 0, weights, prior[:, i])
        counter = torch.full_like(sample, i), sample, row & MASK, row >> 32
        uniform = (philox_words(torch.broadcast_tensors(*counter), seed)[0] + 0.5) * 2.0**-32
        z[..., i] = _first_above(weights, uniform)
        alive &= listed[:, i] == z[..., i, None]
    return z


def _first_above(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first index whose running sum of weights exceeds uniform times their total; its weight is not 0."""
    running = weights.cumsum(-1)
    above = (running > uniform[..., None] * running[..., -1:]) & (weights > 0)
    last = weights.shape[-1] - 1 - (weights > 0).flip(-1).int().argmax(-1)
    return torch.where(above.any(-1), above.int().argmax(-1), last)
