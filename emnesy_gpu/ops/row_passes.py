"""Passes over all rows that engines and losses make around operators. These are no operators.

On CPUs they are kernels: the functions of torch open a region of OpenMP for a large batch, whose threads then spin and
take the cores from those of the kernels. What torch watches, and other devices, are left to torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.backends import backend_for, load_kernels
from emnesy_gpu.inference.results import per_row
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


def changes_of_prior(logits: Tensor, marginals: Tensor) -> Tensor:
    """The largest difference of a marginal from the prior in each row, [batch]; both [batch, *symbols, K]."""
    if has_kernels(logits):
        kernels = load_kernels("cpu", "common.prior_changes")
        found: Tensor = kernels.largest_changes(logits.flatten(1, -2), marginals.flatten(1, -2))
        return found
    return (marginals - logits.softmax(-1)).abs().flatten(1).amax(1)
