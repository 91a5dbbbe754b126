"""Sweeps of loopy belief propagation, shared by all factor graphs. Messages are float64 logs, [batch, ...]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.reference.symbols import NEG_INF, log_softmax, result_dtype

Update = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A function of all messages: these with one phase renewed, and whether a row has a contradiction, bool [batch]."""


class Converged(NamedTuple):
    """Messages after the last sweep of each row, and [batch] whether there is no contradiction, sweeps and changes."""

    messages: Tensor
    possible: Tensor
    sweeps: Tensor
    change: Tensor


def sweep(messages: Tensor, active: Tensor, updates: Sequence[Update], iterations: int, tolerance: float) -> Converged:
    """Run the updates of all phases in turn, at most ``iterations`` times, on the rows [batch] that are active.

    A row stops, and its messages freeze, at a contradiction, or after a sweep in which no message (a probability)
    changed by as much as the tolerance. A phase reads the messages after the phase before it.
    """
    sweeps = torch.zeros(len(messages), dtype=torch.int32, device=messages.device)
    change = messages.new_zeros(len(messages))
    possible = torch.ones_like(active)
    for _ in range(iterations):
        largest = torch.zeros_like(change)
        for update in updates:
            renewed, contradiction = update(messages)
            possible &= ~(active & contradiction)
            active = active & possible
            steps = (renewed.exp() - messages.exp()).abs().flatten(1)
            largest = torch.cat([largest[:, None], steps], 1).amax(1)
            messages = torch.where(active.view(-1, *[1] * (messages.dim() - 1)), renewed, messages)
        sweeps += active
        change = torch.where(active, largest, change)
        active = active & ~(change < tolerance)
    return Converged(messages, possible, sweeps, change)


def damped(log_new: Tensor, log_old: Tensor, damping: float) -> Tensor:
    """The damped message, log of (1 - damping) * new + damping * old."""
    if damping == 0:
        return log_new
    return torch.logaddexp(log_new + math.log1p(-damping), log_old + math.log(damping))


def results(
    logits: Tensor, status: Tensor, log_belief: Tensor, log_evidence: Tensor, converged: Converged, maximise: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Marginals, log evidence, status, sweeps and change.

    POSSIBLE rows become IMPOSSIBLE if there was a contradiction or the evidence is 0. Rows that are not POSSIBLE get
    the prior, log evidence -inf, no sweeps and no change.
    """
    impossible = ~converged.possible | (log_evidence == NEG_INF)
    status = torch.where((status == POSSIBLE) & impossible, IMPOSSIBLE, status).to(torch.uint8)
    possible = status == POSSIBLE
    marginals = torch.where(possible[:, None, None], torch.softmax(log_belief, -1), log_softmax(logits).exp())
    log_evidence = torch.where(possible, 0.0 if maximise else log_evidence, NEG_INF)
    dtype = result_dtype(logits)
    sweeps, change = converged.sweeps * possible, converged.change * possible
    return marginals.to(dtype), log_evidence.to(dtype), status, sweeps.to(torch.int32), change.to(dtype)
