"""Integers in place of labels: for rows of a tensor, and for labels of any hashable type."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.automata.labels import LARGEST_CODE, codes_of, is_own_code

UNKNOWN = -1
"""The code of a label that no assignment has."""


class DistinctRows:
    """The distinct rows of a tensor in lexicographic order, ``rows``; ``codes`` int64 [M] says which one each row is.

    Rows are compared entry by entry: the code of the entries so far, and the rank of the next one, give the code with
    that entry. So rows of another tensor are found by binary search, on the device and without waiting for it.
    """

    def __init__(self, rows: Tensor) -> None:
        """From int64 [M, entries]."""
        self.codes = torch.zeros_like(rows[:, 0])
        self._entries = []
        for column in rows.T:
            values, rank = torch.unique(column, return_inverse=True)
            keys, self.codes = torch.unique(self.codes * len(values) + rank, return_inverse=True)
            self._entries.append((values, keys))
        self.rows = rows.new_empty(len(keys), rows.shape[1])
        self.rows[self.codes] = rows

    @functools.cached_property
    def short_codes(self) -> Tensor:
        """The codes in a type of fewer bits, if it holds them."""
        fits = [
            dtype for dtype in (torch.uint8, torch.int16, torch.int32) if len(self.rows) - 1 <= torch.iinfo(dtype).max
        ]
        return self.codes.to(fits[0])

    def find(self, rows: Tensor) -> Tensor:
        """The codes int64 [batch] of rows [batch, entries]; UNKNOWN for one that is not there."""
        codes, known = torch.zeros_like(rows[:, 0]), torch.ones_like(rows[:, 0], dtype=torch.bool)
        for (values, keys), column in zip(self._entries, rows.T, strict=True):
            rank, is_value = _position(values, column.contiguous())
            codes, is_key = _position(keys, codes * len(values) + rank)
            known = known & is_value & is_key
        return torch.where(known, codes, UNKNOWN)


def _position(ascending: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Where each value lies in an ascending tensor, and whether it is there."""
    position = torch.searchsorted(ascending, values).clamp(max=len(ascending) - 1)
    return position, ascending[position] == values


class LabelCodes:
    """Codes of labels of any hashable type, as ``em.Automaton`` gives them.

    From the list of all labels: integers in 0..2**20 and bools are their own codes, if every label is one of them;
    otherwise labels are numbered in the order of their first appearance. Where all labels cannot be known, integers
    and bools in that range are their own codes, and others are numbered above it as they appear.
    """

    def __init__(self, every_label: Iterable[Hashable] | None) -> None:
        self.complete = every_label is not None
        self._first = 0 if self.complete else LARGEST_CODE + 1
        self._codes: dict[Hashable, int] = codes_of(list(dict.fromkeys(every_label or ())))

    @property
    def labels(self) -> list[Any]:
        """The label of each code, or None; of codes from 2**20 + 1 on, if not all labels can be known."""
        names = [None] * (1 + max(self._codes.values(), default=self._first - 1) - self._first)
        for label, code in self._codes.items():
            names[code - self._first] = label  # type: ignore[call-overload]
        return names

    def code(self, label: Hashable) -> int:
        """Raise ValueError for a label that no assignment has; number a new one where not all are known."""
        if not self.complete:
            if is_own_code(label):
                return int(label)  # type: ignore[call-overload]
            return self._codes.setdefault(label, self._first + len(self._codes))
        if label not in self._codes:
            known = list(self._codes)
            raise ValueError(f"no assignment has the label {label!r}; known are {known[:10]}, {len(known)} in all")
        return self._codes[label]
