"""A search for the most probable valid assignment, by max-product belief propagation and decimation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import INVALID_LABEL

SWEEPS = 10
"""Sweeps of max-product belief propagation in a round, at most."""

CERTAIN = 0.999
"""The belief (a probability) above which a symbol is fixed."""

TOLERANCE = 1e-3
"""The change of a message (a probability) below which a round stops its sweeps."""

NANOSECONDS_PER_LOGIT = 2000.0
"""Rough ones, of all rounds."""


def cost_of_decimation(symbols: Tensor) -> float:
    """Rough nanoseconds per row of symbols [batch, N, K]."""
    return NANOSECONDS_PER_LOGIT * symbols.shape[1:].numel()


def decimate(
    propagate: Callable[..., tuple[Tensor, ...]], symbols: Tensor, label: Tensor, graph: tuple[Any, ...]
) -> tuple[Tensor, Tensor]:
    """Find an assignment int64 [batch, N] and the status uint8 [batch] of each row, as if all labels were 1.

    propagate: the launch function of belief propagation, with the arguments symbols, label, those of the graph,
    sweeps, damping, tolerance and whether to maximise.

    Each round takes max-product beliefs and fixes the symbols that are certain, and of the others the one with the
    largest lead of its best value over the second. A fixed symbol has hard zeros at all other values from then on.
    There are at most N rounds. A row that meets a contradiction is completed by its current beliefs, and is not valid.
    """
    batch, n_variables, cardinality = symbols.shape
    open_symbols = torch.ones(batch, n_variables, dtype=torch.bool, device=symbols.device)
    values = torch.arange(cardinality, device=symbols.device)
    first_status = torch.zeros(0)
    for step in range(n_variables):
        settings = SWEEPS, 0.0, TOLERANCE, True
        beliefs, _, status, *_ = propagate(symbols, torch.ones_like(label), *graph, *settings)
        top = beliefs.double().topk(min(2, cardinality), -1)
        choice = top.indices[..., 0]
        lead = (top.values[..., 0] - top.values[..., -1]).masked_fill(~open_symbols, -1.0)
        fixed = open_symbols & (top.values[..., 0] > CERTAIN)
        fixed |= torch.nn.functional.one_hot(lead.argmax(1), n_variables).bool() & open_symbols
        excluded = fixed[..., None] & (values != choice[..., None])
        symbols = symbols.masked_fill(excluded, float("-inf"))
        open_symbols = open_symbols & ~fixed
        first_status = status if step == 0 else first_status
        if symbols.device.type == "cpu" and not bool(open_symbols.any()):
            break
    broken = (label < 0) | (label > 1)
    return symbols.argmax(-1), torch.where(broken, INVALID_LABEL, first_status).to(torch.uint8)
