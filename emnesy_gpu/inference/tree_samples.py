"""Exact samples where marginals are exact: symbols are drawn from them, and fixed, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emnesy_gpu.inference.joint_table import first_above, uniforms

ENTRIES_AT_A_TIME = 1 << 22
"""Logits of the rows that are sampled together: 32 MiB."""


def sample(
    marginals_of: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    label: Tensor,
    rounds: Sequence[Sequence[int]],
    draws: tuple[int, int, int],
) -> Tensor:
    """Independent samples int64 [n_samples, batch, n] of logits [batch, n, K].

    marginals_of: logits float64 [rows, n, K] and labels -> exact marginals, the prior where the label is impossible.
    rounds: the symbols in the order in which they are drawn; those of a round are independent given all before them.
    draws: n_samples, seed, first_row. Symbol i of sample t and row r takes the first word u of the Philox counter
    (i, t, first_row + r): the first value whose running sum of marginals exceeds u times their total.
    """
    n_samples, seed, first_row = draws
    batch, n, k = logits.shape
    drawn = torch.empty(n_samples, batch, n, dtype=torch.int64, device=logits.device)
    step = max(1, ENTRIES_AT_A_TIME // max(1, n_samples * n * k))
    for first in range(0, batch if n_samples else 0, step):
        rows = logits[first : first + step]
        words = uniforms(n, n_samples, len(rows), seed, first_row + first, logits.device).flatten(1)
        fixed = rows.double().repeat_interleave(n_samples, 0)
        labels = label[first : first + step].repeat_interleave(n_samples, 0)
        for together in rounds:
            marginals = marginals_of(fixed, labels)
            for i in together:
                value = first_above(marginals[:, i], words[i, :, None])
                fixed[:, i] = torch.full_like(fixed[:, i], float("-inf")).scatter_(1, value, 0.0)
        drawn[:, first : first + step] = fixed.argmax(-1).view(len(rows), n_samples, n).movedim(1, 0)
    return drawn
