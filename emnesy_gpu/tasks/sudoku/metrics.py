"""Decision rules for boards and their figures: thresholds, AUROC, accuracy up to the names of the symbols."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.tasks.files.extras import require


def best_threshold(scores: Tensor, labels: Tensor) -> float:
    """Return the t for which ``score > t`` agrees best with the labels (1 valid, 0 not) of calibration boards.

    Candidates lie halfway between neighbouring scores; among equally good ones the median. Scores may be -inf.
    """
    ordered = scores.double().unique().clamp_min(-torch.finfo(torch.float64).max / 4)
    candidates = torch.cat([ordered[:1] - 1, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:] + 1])
    right = ((scores[:, None].double() > candidates) == labels[:, None].bool()).sum(0)
    best = candidates[right == right.max()]
    return float(best[len(best) // 2])


def threshold_accuracy(scores: Tensor, labels: Tensor, threshold: float) -> float:
    """Return the share of the boards for which ``score > threshold`` agrees with the label."""
    return float(((scores.double() > threshold) == labels.bool()).double().mean())


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Return the probability that a valid board scores above an invalid one; ties count half.

    NaN where one kind is missing.
    """
    positive, negative = scores[labels == 1][:, None], scores[labels == 0]
    return float((positive > negative).double().mean() + (positive == negative).double().mean() / 2)


def best_renaming(predicted: Tensor, true: Tensor, n_symbols: int) -> Tensor:
    """Return the true name of every predicted symbol, int64 [n_symbols]: one-to-one, with the most symbols right.

    The validity of a board says nothing about the names of its symbols. The names come from the Hungarian method.
    """
    pairs = predicted.flatten() * n_symbols + true.flatten()
    counts = torch.bincount(pairs, minlength=n_symbols**2).view(n_symbols, n_symbols)
    _, names = require("scipy.optimize").linear_sum_assignment(counts.numpy(), maximize=True)
    return torch.from_numpy(names)


def matched_accuracy(predicted: Tensor, true: Tensor, n_symbols: int) -> float:
    """Return the share of the symbols that are right under the best renaming."""
    renamed = best_renaming(predicted, true, n_symbols)[predicted]
    return float((renamed == true).double().mean())
