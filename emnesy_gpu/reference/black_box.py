"""Samples counted by a score of the user and by the value of each symbol, in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emnesy_gpu.reference.abc_sampling import draw


def histogram(
    thresholds: Tensor, label: Tensor, score: Callable, n_constraints: int, n_samples: int, seed: int, first_row: int
) -> Tensor:
    """Samples counted by score and by the value of each symbol, int64 [batch, n_constraints + 1, N, K].

    thresholds: as in ``reference.abc_sampling``, which draws the samples. label: int64 [batch, entries].
    score: (z, y) -> the number of satisfied constraints, as a Python, Numba or Triton function of one sample, where
        z[i] is symbol i and y[j] entry j of the label. Scores are clamped to 0..n_constraints.
    """
    batch, n, k = thresholds.shape[0], thresholds.shape[1], thresholds.shape[2] + 1
    function: Callable = getattr(score, "py_func", getattr(score, "fn", score))
    z = draw(thresholds, n_samples, seed, first_row, 0).tolist()
    result = torch.zeros(batch, n_constraints + 1, n, k, dtype=torch.int64, device=thresholds.device)
    for sample in z:
        for row, values in enumerate(sample):
            satisfied = min(max(int(function(values, label[row].tolist())), 0), n_constraints)
            for i, value in enumerate(values):
                result[row, satisfied, i, value] += 1
    return result
