"""Few rows by the shortest way: from a method of a problem to its kernel, without what a large batch needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from emnesy_gpu.backends import backend_for
from emnesy_gpu.kernels.cpu.common.few_rows import Call, FewRowResults, on_few_rows
from emnesy_gpu.ops.registry import is_unwatched

Method = TypeVar("Method", bound=Callable[..., Any])
CPU = torch.device("cpu")


class FewRows(NamedTuple):
    """How few rows of a problem are computed.

    call: the kernel, which takes logits [batch, *latent_shape, cardinality] and labels by their addresses.
    inputs: (problem, logits, label) -> what the kernel takes in their place.
    outputs: (problem, values, logits) -> the values of the kernel in the order and the shape of the symbols.
    """

    call: Call
    inputs: Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    outputs: Callable[[Any, Tensor, Tensor], Tensor] | None = None


def with_few_rows(make: Callable[[Any], FewRows | None]) -> Callable[[Method], Method]:
    """Decorate a method of inference with what makes its ``FewRows`` for a problem, which keeps it.

    A subclass that replaces the method has none, unless it says so itself.
    """

    def find(problem: Any) -> FewRows | None:
        kept: dict[Any, FewRows | None] = problem.calls_of_few_rows
        if make not in kept:
            kept[make] = make(problem)
        return kept[make]

    def mark(method: Method) -> Method:
        method.few_rows = find  # type: ignore[attr-defined]
        return method

    return mark


def by_few_rows(method: Callable[..., Any], logits: Tensor, label: Tensor, *numbers: float) -> FewRowResults | None:
    """What a method of a problem returns for the arguments of an engine, but for a check, where few rows are ordinary.

    That is for float32 logits on the CPU kernels that nothing watches, where all rows have a posterior. None otherwise.

    Args:
        method: bound; numbers: of its kernel, see ``on_few_rows``.
    """
    if not is_unwatched(logits) or logits.dtype is not torch.float32:
        return None
    find = getattr(method, "few_rows", None)
    if find is None or backend_for(CPU) != "cpu":
        return None
    problem = method.__self__  # type: ignore[attr-defined]
    few = find(problem)
    if few is None:
        return None
    call, inputs, outputs = few
    symbols, label = (logits, label) if inputs is None else inputs(problem, logits, label)
    results = on_few_rows(call, symbols, label, *numbers)
    if results is None or outputs is None:
        return results
    values, *others = results
    return outputs(problem, values, logits), *others
