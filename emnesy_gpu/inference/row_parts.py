"""Loops of torch over the rows of a batch: on CPUs on the threads of the kernels."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for
from emnesy_gpu.kernels.cpu.common.parallel import MOST_ON_ONE_THREAD, for_rows_in_torch

NANOSECONDS_PER_CHECK = 1.0
"""Rough ones, of a logit."""

Compute = Callable[[int, int], tuple[Tensor, ...]]


def rows_of_a_part(values: Tensor) -> int:
    """How many rows of [batch, ...] are computed at a time: on a GPU, whose kernels take any number, all of them."""
    if backend_for(values.device) == "triton":
        return max(1, len(values))
    return max(1, MOST_ON_ONE_THREAD // max(1, values.shape[1:].numel()))


def in_parts(
    compute: Compute, like: Tensor, at_a_time: int, row_cost: float, fewest: int = 1, shared: bool = True
) -> tuple[Tensor, ...]:
    """Concatenate what compute(first, last) returns for parts of all rows of a tensor [batch, ...].

    On a CPU the threads of the kernels call compute, where torch takes no further ones, and the caller waits, unless
    there is little to do. Autograd does not record it. A batch without rows is a part.

    Args:
        at_a_time: the most rows of a part.
        row_cost: rough nanoseconds per row.
        fewest: the rows for which a thread is worth while.
        shared: whether several threads may call compute at once.
    """
    found: dict[int, tuple[Tensor, ...]] = {}
    columns: list[Tensor] = []
    rows, context = len(like), contextvars.copy_context()

    def work(first: int, last: int) -> None:
        with torch.no_grad():
            for row in range(first, max(last, first + 1), at_a_time):
                found[row] = compute(row, min(row + at_a_time, last))

    def in_context(first: int, last: int) -> None:
        context.copy().run(work, first, last)

    def join(*_: int) -> None:
        columns.extend(torch.cat(column) for column in zip(*(found[row] for row in sorted(found)), strict=True))

    on_threads = backend_for(like.device) == "cpu" and not _is_watched()
    if on_threads:
        for_rows_in_torch(in_context, rows, max(1, fewest), row_cost, None if shared else 1)
    else:
        work(0, rows)
    if len(found) == 1:
        return found[0]
    if on_threads:
        for_rows_in_torch(join, 1, 1, rows * row_cost)
    else:
        join()
    return tuple(columns)


def status_of_rows(logits: Tensor, label: Tensor, n_values: int | None) -> Tensor:
    """``checks.row_status`` of all rows, uint8 [batch]."""

    def some_rows(first: int, last: int) -> tuple[Tensor, ...]:
        return (checks.row_status(logits[first:last], label[first:last], n_values),)

    cost = NANOSECONDS_PER_CHECK * logits.shape[1:].numel()
    return in_parts(some_rows, logits, rows_of_a_part(logits), cost)[0]


def _is_watched() -> bool:
    """Whether a transform or a mode of this thread watches its operations; it does not see those of other threads."""
    modes = torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack()
    return modes > 0 or torch._C._functorch.peek_interpreter_stack() is not None
