"""How far an epoch has come: what a run needs, beside its nets, to go on in the middle of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

MEANS, SUMS = ("loss", "log_evidence", "possible"), ("seconds_e", "seconds_m")
"""The figures of an epoch that are means over its rows, and those that are sums over its batches."""


@dataclass
class EpochProgress:
    """The order of the rows of an epoch, the batches that are done, and their figures so far."""

    order: Tensor
    """int64 [n_rows]."""
    batches: int = 0
    calls: int = 0
    """E-steps of a sampling engine, whose seeds count them."""
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*MEANS, *SUMS), 0.0))
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def remaining(self, batch: int) -> Iterator[Tensor]:
        """Return the rows of the batches that are left."""
        return iter(self.order.split(batch)[self.batches :])

    def add(self, metrics: dict[str, float], n_rows: int) -> None:
        """Count a batch of so many rows."""
        self.batches += 1
        for name in MEANS:
            self.totals[name] += metrics[name] * n_rows / len(self.order)
        for name in SUMS:
            self.totals[name] += metrics[name]

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], n_rows: int) -> EpochProgress:
        """Build it from ``to_dict``; ValueError where the order is none of ``n_rows`` rows."""
        progress = cls(**values)
        if not torch.equal(progress.order.sort().values, torch.arange(n_rows)):
            raise ValueError(f"the order of an epoch must hold each of {n_rows} rows once")
        return progress
