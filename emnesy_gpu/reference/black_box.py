"""Samples of a problem with a score of the user, counted by score and value, in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emnesy_gpu.reference.abc_sampling import draw


def histogram(
    thresholds: Tensor, label: Tensor, score: Callable, n_constraints: int, n_samples: int, seed: int, first_row: int
) -> Tensor:
    """int64 [batch, n_constraints + 1, N, K]: how many samples have each score, and each value of each symbol.

    score: (z, y) -> the number of satisfied constraints, where z[i] is symbol i and y[j] entry j of the label, as a
    function of one sample (or a Numba function or Triton function of it). thresholds and samples: as in
    ``reference.abc_sampling``. label: int64 [batch, entries]. A score outside 0..n_constraints counts as the nearest.
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
