"""Samples counted by a score of the user; a function is no argument of an operator, so this is a plain function."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference import importance


def histogram(
    logits: Tensor, label: Tensor, score: Callable, n_constraints: int, n_samples: int, seed: int, first_row: int
) -> Tensor:
    """Samples counted by score and by the value of each symbol, int64 [batch, n_constraints + 1, N, K].

    logits: [batch, *symbols, K]. label: int64 [batch, *entries].
    score: a Numba function for CPU tensors, a Triton function for CUDA tensors.
    """
    thresholds = importance.thresholds(logits.flatten(1, -2))
    kernels = kernels_for("black_box", logits.device)
    entries = label.reshape(len(label), label[0].numel() if len(label) else 1)
    return kernels.histogram(thresholds, entries.contiguous(), score, n_constraints, n_samples, seed, first_row)
