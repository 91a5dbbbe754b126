"""Checks of user input; every error names the argument, the expectation and the value."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE

FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LARGEST_SEED = 2**63 - 1
MOST_SYMBOLS = 1 << 24
"""And values of one: lists of them must fit in memory."""

FEW_ROWS = 64
"""Rows up to which Python finds the largest status sooner than torch does."""

INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def is_tensor(name: str, value: object, remedy: str = "") -> None:
    """Raise TypeError unless the value is a dense tensor; remedy: what to do about other types."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}{remedy}")
    if value.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got a nested one: call torch.nested.to_padded_tensor")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}: call to_dense()")


def is_instance(name: str, value: object, kind: type | tuple[type, ...], example: str) -> None:
    """Raise TypeError unless the value is an instance of a class; example: how one is made."""
    if not isinstance(value, kind):
        got = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise TypeError(f"{name} must be {example}, got {got}")


def has_method(name: str, value: object, method: str, what: str) -> None:
    """Raise TypeError unless the value has a method; what: what it must be."""
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise TypeError(f"{name} must be {what} or None, got {value!r}")


def has_dtype(name: str, tensor: Tensor, allowed: tuple[torch.dtype, ...], remedy: str = "") -> None:
    """Raise TypeError unless the tensor has one of the allowed dtypes; remedy: what to do about others."""
    if tensor.dtype not in allowed:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        got = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(f"{name} must have one of the dtypes {names}, got {got}{remedy}")


def has_rows(name: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor without axes."""
    if tensor.dim() == 0:
        raise ValueError(f"{name} must have shape [batch, ...], got []")


def has_trailing_shape(name: str, tensor: Tensor, trailing: tuple[int, ...], remedy: Callable[[], str] = str) -> None:
    """Raise ValueError unless the shape is [batch, *trailing]; remedy: says what to do about this one."""
    if tensor.dim() == 0 or tensor.shape[1:] != trailing:
        expected = ", ".join(["batch", *map(str, trailing)])
        raise ValueError(f"{name} must have shape [{expected}], got {list(tensor.shape)}{remedy()}")


def is_shape(name: str, shape: object) -> None:
    """Raise TypeError or ValueError unless the value is a sequence of at least one integer >= 1."""
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence):
        raise TypeError(f"{name} must be a tuple of integers, got {shape!r}")
    if len(shape) == 0:
        raise ValueError(f"{name} must have at least one axis, got {shape!r}")
    for index, size in enumerate(shape):
        is_integer(f"{name}[{index}]", size, 1, None)


def is_integer(name: str, value: object, low: int, high: int | None) -> None:
    """Raise TypeError or ValueError unless the value is an integer in low..high; None stands for no upper bound."""
    expected = f"an integer >= {low}" if high is None else f"an integer in {low}..{high}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {expected}, got {value}")


def is_flag(name: str, value: object) -> None:
    """Raise TypeError unless the value is a bool."""
    if value is not True and value is not False:  # the fastest test: posteriors make it in every call
        raise TypeError(f"{name} must be True or False, got {value!r}")


def is_function(name: str, value: object, what: str = "a function") -> None:
    """Raise TypeError unless the value can be called; what: of what kind."""
    if not callable(value):
        raise TypeError(f"{name} must be {what}, got {value!r}")


def is_path(name: str, value: object) -> None:
    """Raise TypeError unless the value is the path of a file: numbers would be open files."""
    if not isinstance(value, (str, PathLike)):
        raise TypeError(f"{name} must be a path, got {value!r}")
    if "\0" in str(value):
        raise ValueError(f"{name} must be a path without NUL characters, got {value!r}")


def is_text(name: str, value: object, what: str) -> None:
    """Raise TypeError unless the value is a string; what: of what kind."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {what}, got {value!r}")


def is_among(value: object, options: Sequence[object]) -> bool:
    """Whether the value is one of some strings or integers; arrays are not, whatever they compare to."""
    return isinstance(value, (str, int)) and value in options


def is_one_of(name: str, value: object, options: Sequence[object]) -> None:
    """Raise ValueError unless the value is one of some strings or integers."""
    if not is_among(value, options):
        raise ValueError(f"{name} must be one of {', '.join(map(str, options))}, got {value!r}")


def items(name: str, values: object, what: str) -> tuple[Any, ...]:
    """The members of an iterable; TypeError for anything else, and for strings; what: of what kind they must be."""
    try:
        if isinstance(values, (str, bytes)):
            raise TypeError
        return tuple(values)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{name} must be {what}, got {values!r}") from error


def integers(name: str, values: object, low: int, high: int | None) -> tuple[int, ...]:
    """The members of an iterable; TypeError or ValueError unless all are integers in low..high."""
    found = items(name, values, "integers")
    found = tuple(int(value) if isinstance(value, np.integer) else value for value in found)
    for index, value in enumerate(found):
        is_integer(f"{name}[{index}]", value, low, high)
    return found


def is_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Raise TypeError or ValueError unless the value is a number with low <= value < high."""
    expected = f"a finite number >= {low:g}" if high == math.inf else f"a number in [{low:g}, {high:g})"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not low <= value < high or value > sys.float_info.max:  # integers have no largest one
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def is_positive(name: str, value: object) -> None:
    """Raise TypeError or ValueError unless the value is a finite number above 0."""
    is_number(name, value, 0.0)
    if value == 0:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def numbers(name: str, values: object, low: float, high: float = math.inf) -> tuple[float, ...]:
    """The members of an iterable as floats; TypeError or ValueError unless all are numbers in [low, high)."""
    found = items(name, values, "numbers")
    for index, value in enumerate(found):
        is_number(f"{name}[{index}]", value.item() if isinstance(value, np.number) else value, low, high)
    return tuple(map(float, found))


def are_fine(logits: Tensor, label: Tensor, symbols: tuple[int, ...], entries: tuple[int, ...]) -> bool:
    """Whether nothing about plain tensors [batch, *symbols] and [batch, *entries] is wrong, at a fraction of the cost.

    Where it is False, the other checks say why; they allow subclasses of tensors too.
    """
    if type(logits) is not Tensor or type(label) is not Tensor or logits.is_nested or label.is_nested:
        return False
    shape = logits.shape
    return (
        shape[1:] == symbols
        and label.shape == (shape[0], *entries)
        and logits.dtype in FLOAT_DTYPES
        and label.dtype in INTEGER_DTYPES
        and logits.layout is label.layout is torch.strided
        and ((logits.is_cpu and label.is_cpu) or logits.device == label.device)
    )


def belong_together(logits: Tensor, label: Tensor) -> None:
    """Raise ValueError unless logits and label have the same device and batch size."""
    if label.device != logits.device:
        raise ValueError(f"label must be on the device of logits: expected {logits.device}, got {label.device}")
    if label.shape[0] != logits.shape[0]:
        raise ValueError(f"label must have the batch size of logits: expected {logits.shape[0]}, got {label.shape[0]}")


def row_status(logits: Tensor, label: Tensor, n_values: int | None) -> Tensor:
    """The status of each row, uint8 [batch]: POSSIBLE, or the reason why the row has no posterior.

    Label entries must lie in 0..n_values-1; None allows any.
    """
    # The largest logit of a symbol is NaN, +inf or -inf exactly where its logits are no prior.
    no_prior = logits.amax(-1).isfinite().logical_not()
    status = torch.where(no_prior.flatten(1).any(1), INVALID_LOGITS, POSSIBLE)
    if n_values is not None:
        outside = (label < 0) | (label >= n_values)
        status = torch.where(outside.unsqueeze(1).flatten(1).any(1), INVALID_LABEL, status)
    return status.to(torch.uint8)


def raise_for_status(status: Tensor, logits: Tensor, label: Tensor, expected: str, n_values: int) -> None:
    """Raise ValueError for the first row whose logits or label are not allowed (synchronises a GPU).

    expected: what a label must be, in words; every entry of it must lie in 0..n_values-1.
    """
    if highest(status) < INVALID_LOGITS:
        return
    row = int((status >= INVALID_LOGITS).nonzero()[0])
    if int(status[row]) == INVALID_LABEL:
        _raise_for_label(label[row], row, expected, n_values)
    _raise_for_logits(logits[row], row)


def highest(status: Tensor) -> int:
    """The largest status of a row, POSSIBLE where there are none (synchronises a GPU)."""
    if status.numel() > FEW_ROWS:
        return int(status.max())
    return max(status.tolist(), default=POSSIBLE)


def raise_for_validity(status: Tensor, logits: Tensor, label: Tensor) -> None:
    """Raise ValueError for the first row that is not allowed, where labels say whether all constraints hold."""
    raise_for_status(status, logits, label, "1 (valid) or 0 (invalid)", 2)


def _raise_for_label(values: Tensor, row: int, expected: str, n_values: int) -> None:
    wrong = tuple(((values < 0) | (values >= n_values)).nonzero()[0].tolist())
    index = ", ".join(map(str, (row, *wrong)))
    remedy = ": em.Partial takes rows without a label" if bool((values == -1).all()) else ""
    raise ValueError(f"label[{index}] must be {expected}, got {int(values[wrong])}{remedy}")


def _raise_for_logits(values: Tensor, row: int) -> None:
    wrong = (values.isnan() | (values == float("inf"))).nonzero()
    if wrong.numel():
        index = ", ".join(map(str, [row, *wrong[0].tolist()]))
        got = float(values[tuple(wrong[0])])
        raise ValueError(f"logits[{index}] must be finite or -inf, got {got}")
    empty = (values == float("-inf")).all(-1).nonzero()[0].tolist()
    index = ", ".join(map(str, [row, *empty]))
    raise ValueError(f"logits[{index}] must have at least one finite value, got -inf for every value")
