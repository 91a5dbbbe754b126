"""Holds the results of belief propagation, and says which launches compute them.

Float32 results take two launches. The first computes with float32 probabilities and marks the rows whose digits drown;
the second repeats the marked rows, if any, with float64 logarithms. Float64 results take the second launch alone.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import float64

from emnesy_gpu.kernels.gpu.common.results import float_dtype

Results = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Marginals [batch, N, K]; log evidence, status (uint8), sweeps (int32) and change [batch]."""


class Parameters(NamedTuple):
    """Settings of belief propagation; see the reference."""

    iterations: int
    damping: float
    tolerance: float
    maximise: bool


class Batch(NamedTuple):
    """The rows of a launch, and where its results go."""

    logits: torch.Tensor  # [batch, N, K]
    label: torch.Tensor  # int64 [batch]
    results: Results
    redo: torch.Tensor  # uint8 [batch]: 1 where the launch with logarithms has to compute the row

    def in_float64(self) -> Batch:
        """The marked rows and those with label 0, with marginals and log evidence of their own; marks stay."""
        marginals, log_evidence, status, sweeps, change = self.results
        wide = torch.empty_like(marginals, dtype=float64), torch.empty_like(log_evidence, dtype=float64)
        return self._replace(results=(*wide, status, sweeps, change))


def batch_of(logits: torch.Tensor, label: torch.Tensor) -> Batch:
    """Uninitialised results; all rows are marked unless a launch in float32 marks them."""
    batch, dtype = len(logits), float_dtype(logits)
    status = logits.new_empty(batch, dtype=torch.uint8)
    results = (
        torch.empty_like(logits, dtype=dtype),
        logits.new_empty(batch, dtype=dtype),
        status,
        logits.new_empty(batch, dtype=torch.int32),
        logits.new_empty(batch, dtype=dtype),
    )
    redo = torch.empty_like(status) if dtype == torch.float32 else torch.ones_like(status)
    return Batch(logits, label, results, redo)


def passes(batch: Batch) -> tuple[torch.dtype, ...]:
    """What the launches compute with, one after another."""
    float32 = batch.results[0].dtype == torch.float32
    return (torch.float32, torch.float64) if float32 else (torch.float64,)


def phase_ends(phases: list[int], like: torch.Tensor) -> torch.Tensor:
    """Where the phase of each of sum(phases) updates ends; a tensor of the dtype and device of `like`."""
    ends = [end for size, end in zip(phases, accumulate(phases), strict=True) for _ in range(size)]
    return torch.tensor(ends, dtype=like.dtype, device=like.device)
