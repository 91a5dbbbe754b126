"""Labels of factors as further symbols: their digits, which the row's label makes certain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from emnesy_gpu.factor_graphs.potentials import Observed
from emnesy_gpu.kernels.factor_graph_tables import LabelDigits


class Entry(NamedTuple):
    """An entry of the label of a graph: which variables it is about, and how many symbols its digits are."""

    observed: Observed
    scope: list[int]
    n_digits: int


def digits_of(entries: Sequence[Entry], base: int, device: torch.device) -> LabelDigits:
    """The digits of all entries, from the most significant one of each on."""
    rows = [
        (number, entry.observed.n + entry.observed.has_sum, base**place)
        for number, entry in enumerate(entries)
        for place in reversed(range(entry.n_digits))
    ]
    entry, n_labels, power = torch.tensor(rows, dtype=torch.int64).T.contiguous().to(device)
    return LabelDigits(entry, n_labels, power, base)
