"""Labels and logits as data sets and nets have them, turned into what the package takes, on request alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu import checks

NOT_LABELLED = -1
"""Every entry of the label of a row that has none: see ``em.Partial``."""


def as_label(values: Any, labelled: Any = None) -> Tensor:
    """Labels of any integer type as an int64 tensor: bools, all unsigned integers, NumPy arrays, lists.

    Args:
        values: a tensor, a NumPy array, or what ``numpy.asarray`` takes, with integers or bools.
        labelled: bools [batch], False for rows without a label, whose entries become -1, for ``em.Partial``.

    Returns:
        int64, of the same shape, on the same device.

    Raises TypeError for floats and other types, ValueError for numbers that int64 does not hold and for a mask of
    another length. Reads every value of uint64.

    >>> import numpy as np, emnesy_gpu as em
    >>> em.as_label(np.array([[True, False], [True, True]]), labelled=[True, False])
    tensor([[ 1,  0],
            [-1, -1]])
    """
    if not isinstance(values, Tensor):
        array = _as_array("values", values)
        if array.dtype.kind not in "bui":
            raise TypeError(f"values must be integers or bools, got {array.dtype}")
        values = torch.from_numpy(np.ascontiguousarray(array))
    if values.is_floating_point() or values.is_complex():
        raise TypeError(f"values must be integers or bools, got {values.dtype}")
    label = values.to(torch.int64)
    if values.dtype == torch.uint64 and bool((label < 0).any()):
        raise ValueError("values must be below 2**63, got a larger number")
    if labelled is None:
        return label
    mask = torch.as_tensor(
        labelled if isinstance(labelled, Tensor) else _as_array("labelled", labelled), device=label.device
    ).bool()
    if mask.shape != label.shape[:1]:
        raise ValueError(f"labelled must have shape {list(label.shape[:1])}, got {list(mask.shape)}")
    return torch.where(mask.view(-1, *[1] * (label.dim() - 1)), label, NOT_LABELLED)


def _as_array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length, got {values!r}") from error
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be integers or bools, got {array.dtype}")
    # torch knows no unsigned long long, which has the numbers of uint64.
    return array.astype(array.dtype.name) if array.dtype.kind == "u" else array


def binary_logits(logits: Tensor) -> Tensor:
    """Logits of a sigmoid, for problems of cardinality 2: [...] -> [..., 2], those of the values 0 and 1.

    The softmax of (0, logit) is (1 - sigmoid, sigmoid). Differentiable. Raises TypeError for what is no float tensor.

    >>> import torch, emnesy_gpu as em
    >>> em.binary_logits(torch.tensor([0.0, 2.0])).softmax(-1)[:, 1] == torch.tensor([0.0, 2.0]).sigmoid()
    tensor([True, True])
    """
    checks.is_tensor("logits", logits)
    checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
    return torch.stack([torch.zeros_like(logits), logits], -1)
