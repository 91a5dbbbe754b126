"""The most probable valid assignment by max-product belief propagation and decimation."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import INVALID_LABEL

SWEEPS = 10
"""Of max-product belief propagation in a round."""

CERTAIN = 0.999
"""The belief above which a symbol is fixed."""

TOLERANCE = 1e-3
"""The change of a message (a probability) below which a round stops its sweeps."""


def decimate(
    kernels: ModuleType, symbols: Tensor, label: Tensor, groups: Tensor, phases: list[int]
) -> tuple[Tensor, Tensor]:
    """An assignment int64 [batch, N] and the status [batch], whatever the label.

    Each round takes max-product beliefs and fixes the symbols that are certain, and of the others the one with the
    largest lead of its best value over the second; fixed symbols are hard zeros for the rest. At most N rounds. A row
    that runs into a contradiction on the way is completed by its beliefs of the moment, and will not be valid.
    """
    batch, n_variables, cardinality = symbols.shape
    open_symbols = torch.ones(batch, n_variables, dtype=torch.bool, device=symbols.device)
    values = torch.arange(cardinality, device=symbols.device)
    first_status = torch.zeros(0)
    for step in range(n_variables):
        beliefs, _, status, *_ = kernels.belief_propagation(
            symbols, torch.ones_like(label), groups, phases, SWEEPS, 0.0, TOLERANCE, True
        )
        top = beliefs.double().topk(2, -1)
        choice = top.indices[..., 0]
        lead = (top.values[..., 0] - top.values[..., 1]).masked_fill(~open_symbols, -1.0)
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
