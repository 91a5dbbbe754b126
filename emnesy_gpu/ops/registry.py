"""How an operator is registered: schema, implementation and shapes of its results, from one annotated function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch

NAMESPACE = "emnesy_gpu"
_library = torch.library.Library(NAMESPACE, "DEF")
NAMES: list[str] = []
"""Every registered operator, without the namespace."""

F = TypeVar("F", bound=Callable[..., Any])


def operator(results: Callable[..., Any]) -> Callable[[F], F]:
    """Register a function as the operator of its name, for CPU and CUDA tensors alike.

    The schema comes from the annotations. The function takes the back end of its tensors' device when it is called.

    Args:
        results: makes uninitialised results of the right shapes and dtypes from those arguments of the operator that
            it names: see ``emnesy_gpu.ops.results``.
    """

    def register(function: F) -> F:
        name = function.__name__
        NAMES.append(name)
        _library.define(name + torch.library.infer_schema(function, mutates_args=()))
        for key in ("CPU", "CUDA"):
            _library.impl(name, function, key)
        torch.library.register_fake(f"{NAMESPACE}::{name}", _fake(function, results), lib=_library)
        return function

    return register


def _fake(function: Callable[..., Any], results: Callable[..., Any]) -> Callable[..., Any]:
    """What tells torch.compile the shapes of the results."""
    names = list(inspect.signature(function).parameters)
    wanted = [names.index(name) for name in inspect.signature(results).parameters]
    return lambda *arguments: results(*(arguments[index] for index in wanted))
