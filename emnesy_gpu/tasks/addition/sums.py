"""The protocol of MNIST addition: how images become sums, and how sums are counted as right."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.problems import Addition

N_GROUPINGS = 20
GROUPING_SEED = 20


def group(order: Tensor, n_digits: int) -> Tensor:
    """Cut an order of image indices [n] into sums: int64 [n // (2 * n_digits), 2, n_digits].

    Every image is used once; the remainder is dropped. Within a sum the first ``n_digits`` images are the first
    number, most significant digit first.
    """
    n_sums = len(order) // (2 * n_digits)
    return order[: n_sums * 2 * n_digits].view(n_sums, 2, n_digits)


def sum_accuracy(problem: Addition, predicted: Tensor, true: Tensor, sums: Tensor) -> float:
    """Return the share of the sums [n_sums, 2, n_digits] whose predicted digits add up to the right number."""
    right = (problem.label(predicted[sums]) == problem.label(true[sums])).all(-1)
    return float(right.double().mean())


def mean_sum_accuracy(problem: Addition, predicted: Tensor, true: Tensor) -> float:
    """Average ``sum_accuracy`` over 20 fixed random groupings of the images, which leaves less to chance."""
    generator = torch.Generator().manual_seed(GROUPING_SEED)
    total = 0.0
    for _ in range(N_GROUPINGS):
        order = torch.randperm(len(true), generator=generator)
        total += sum_accuracy(problem, predicted, true, group(order, problem.n_digits))
    return total / N_GROUPINGS
