"""Passes over all rows that engines and losses make around operators. These are no operators.

On CPUs they are kernels: the functions of torch open a region of OpenMP for a large batch, whose threads then spin and
take the cores from those of the kernels. What torch watches, and other devices, are left to torch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.backends import backend_for, load_kernels
from emnesy_gpu.inference.results import Chains, per_row
from emnesy_gpu.kernels.cpu.common.parallel import MOST_ON_ONE_THREAD
from emnesy_gpu.ops.registry import is_unwatched

SCALED_DTYPES = (torch.float32, torch.float64)


def has_kernels(tensor: Tensor) -> bool:
    """Whether a pass over a tensor is a kernel on CPUs."""
    return is_unwatched(tensor) and backend_for(tensor.device) == "cpu"


def scaled_rows(values: Tensor, factors: Tensor, in_place: bool) -> Tensor:
    """values [batch, ...] times factors, [batch] or one number []; in_place: whether values may be overwritten."""
    # Torch takes less time for few numbers than the call of a kernel does.
    large = values.numel() > MOST_ON_ONE_THREAD and values.is_contiguous()
    alike = values.dtype == factors.dtype and values.dtype in SCALED_DTYPES
    if large and alike and all(has_kernels(one) and not is_wrapped(one) for one in (values, factors)):
        scaled: Tensor = load_kernels("cpu", "common.scaled_rows").scaled_rows(values, factors, in_place)
        return scaled
    numbers = per_row(factors, values) if factors.dim() else factors
    return values.mul_(numbers) if in_place else values * numbers


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a tensor came out of a transform of ``torch.func``, or of the batches of ``torch.autograd``."""
    functorch = torch._C._functorch
    return functorch.is_functorch_wrapped_tensor(tensor) or functorch.is_legacy_batchedtensor(tensor)


class Limits(NamedTuple):
    """Rows of chains below all three are unmoved: nothing moves their chains to the label."""

    satisfied: float
    log_evidence: float
    change: float  # of every marginal from the prior


def count_unmoved(logits: Tensor, chains: Chains, limits: Limits) -> int:
    """How many rows of chains are below the limits; synchronises a GPU. logits: [batch, *symbols, K]."""
    (marginals, log_evidence, _), satisfied = chains
    if has_kernels(logits):
        kernels = load_kernels("cpu", "common.prior_changes")
        rows = logits.flatten(1, -2), marginals.flatten(1, -2), log_evidence, satisfied
        found: int = kernels.count_unmoved(*rows, limits)
        return found
    change = (marginals - logits.to(marginals.dtype).softmax(-1)).abs().flatten(1).amax(1)
    unlikely = (satisfied < limits.satisfied) & (log_evidence < limits.log_evidence)
    return int((unlikely & (change < limits.change)).sum())
