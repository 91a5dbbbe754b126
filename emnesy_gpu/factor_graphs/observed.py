"""Labels of factors as further symbols: their digits, which the row's label makes certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.factor_graphs.potentials import Observed

NOT_GIVEN = -1


class Entry(NamedTuple):
    """An entry of the label of a graph: which variables it is about, and how many symbols its digits are."""

    observed: Observed
    scope: list[int]
    n_digits: int


class Digits(NamedTuple):
    """Of every further symbol, int64 [E]: its entry of the label, how many labels that has, its power of the base."""

    entry: Tensor
    n_labels: Tensor
    power: Tensor
    base: int

    @classmethod
    def of(cls, entries: Sequence[Entry], base: int, device: torch.device) -> Digits:
        rows = [
            (number, entry.observed.n, base**place)
            for number, entry in enumerate(entries)
            for place in reversed(range(entry.n_digits))
        ]
        entry, n_labels, power = torch.tensor(rows, dtype=torch.int64).T.contiguous().to(device)
        return cls(entry, n_labels, power, base)

    def values(self, label: Tensor) -> Tensor:
        """int64 [..., E] of labels [..., P]; those of labels that are not given are unspecified."""
        return label[..., self.entry] // self.power % self.base

    def is_known(self, label: Tensor) -> Tensor:
        """Which labels exist, or are not given: bool [..., E]."""
        found = label[..., self.entry]
        return (found >= NOT_GIVEN) & (found < self.n_labels)

    def logits(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """[batch, E, base]: certain of the digits of label [batch, P]; uniform if it is not given, NaN if unknown."""
        value = torch.arange(self.base, device=label.device)
        certain = (self.values(label)[..., None] == value) | (label[:, self.entry] == NOT_GIVEN)[..., None]
        logits = torch.zeros(certain.shape, dtype=dtype, device=label.device).masked_fill(~certain, float("-inf"))
        return logits.masked_fill(~self.is_known(label)[..., None], float("nan"))

    def log_share(self, label: Tensor) -> Tensor:
        """The log of the probability that the uniform digits of labels that are not given have taken, [batch]."""
        return (label[:, self.entry] == NOT_GIVEN).sum(1).double() * -math.log(self.base)
