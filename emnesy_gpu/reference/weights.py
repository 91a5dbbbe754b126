"""Importance weights of samples that are counted by score, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, float64


def relative_weights(exponents: Tensor, counts: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Weights relative to the best sample of each row, [batch, scores], and its log weight (0 without a weight)."""
    log_weights = torch.where(exponents == float("-inf"), exponents, exponents * levels[:, None])
    best = log_weights.masked_fill(counts == 0, float("-inf")).amax(1, keepdim=True).nan_to_num(neginf=0.0)
    return (log_weights - best).clamp(max=0.0).exp(), best[:, 0]


def sharpness_for(exponents: Tensor, counts: Tensor, target_ess: float) -> Tensor:
    """The largest sharpness in 2^-10..2^20 with at least the target effective sample size, or 0; counts [scores]."""

    def enough(exponent: Tensor) -> bool:
        weights, _ = relative_weights(exponents, counts[None], exponent.exp2()[None])
        total, squares = (counts * weights).sum(), (counts * weights.square()).sum()
        return bool(total.square() / squares.clamp_min(1e-300) >= target_ess)

    found, step = torch.tensor(-10.0, dtype=float64), 30.0
    if not enough(found):
        return torch.zeros((), dtype=float64)
    if enough(found + step):
        return (found + step).exp2()
    for _ in range(25):
        step /= 2
        found = found + step if enough(found + step) else found
    return found.exp2()
