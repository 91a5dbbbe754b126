"""What every kernel of the registry computes, interpreted and simulated, against the reference on the same arguments.

The simulator also proves that a launch stays in bounds and is free of races, on the code of its architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from profiling.gpu_simulator import Options, simulated_triton
from tests.kernel_registry import ENTRIES, Entry
from tests.triton_launches import launches_with

MANY_ROWS = 65_537  # more than the second and third axis of a grid can hold


def marked(entry: Entry, slow: bool) -> Any:
    return pytest.param(entry, id=str(entry).replace(" ", "-"), marks=[pytest.mark.slow] * slow)


EVERY = [marked(entry, entry.slow) for entry in ENTRIES]
VARIANTS = [marked(entry, entry.slow or not entry.variants) for entry in ENTRIES]
SMALL = [marked(entry, entry.slow) for entry in ENTRIES if entry.variants]

WARPS = [
    pytest.param(
        entry,
        num_warps,
        id=f"{entry}-{num_warps}".replace(" ", "-"),
        marks=[pytest.mark.slow] * (entry.slow or num_warps in (2, 4)),
    )
    for entry in ENTRIES
    if entry.variants
    for num_warps in entry.num_warps
]


def simulated(entry: Entry, arguments: tuple[Any, ...], arch: int = 80, checks: bool = True) -> tuple[Any, ...]:
    with simulated_triton(arch, Options(checks=checks, counters=False)) as gpu:
        outputs = entry.run("kernels.gpu", arguments)
    assert gpu.launches or len(arguments[0]) == 0
    return outputs


def require_agreement(entry: Entry, actual: tuple[Any, ...], arguments: tuple[Any, ...]) -> None:
    for mine, theirs in zip(actual, entry.run("reference", arguments), strict=True):
        atol, rtol = (entry.atol, entry.rtol) if mine.is_floating_point() else (0, 0)
        torch.testing.assert_close(mine, theirs, atol=atol, rtol=rtol)


def with_rows(entry: Entry, change: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Any, ...]:
    """The entry's arguments, with another batch."""
    arguments = entry.draw()
    rows = [change(argument).contiguous() for argument in arguments[: entry.n_row_arguments]]
    return *rows, *arguments[entry.n_row_arguments :]


def first_row(output: torch.Tensor, n_rows: int) -> torch.Tensor:
    """The first row of a result, whichever axis is the batch."""
    return output.narrow(output.shape.index(n_rows), 0, 1)


@pytest.mark.parametrize("entry", EVERY)
def test_simulated_ampere(entry: Entry) -> None:
    require_agreement(entry, simulated(entry, entry.draw(), 80), entry.draw())


@pytest.mark.parametrize("entry", VARIANTS)
def test_simulated_hopper(entry: Entry) -> None:
    require_agreement(entry, simulated(entry, entry.draw(), 90), entry.draw())


@pytest.mark.parametrize("entry", [marked(entry, entry.slow) for entry in ENTRIES if entry.interpreted])
def test_interpreted(entry: Entry, interpreter: Callable[..., Any]) -> None:
    require_agreement(entry, interpreter(entry.run, "kernels.gpu", entry.draw()), entry.draw())


@pytest.mark.parametrize(("entry", "num_warps"), WARPS)
def test_any_number_of_warps(entry: Entry, num_warps: int) -> None:
    with launches_with(num_warps=num_warps):
        require_agreement(entry, simulated(entry, entry.draw()), entry.draw())


@pytest.mark.parametrize("entry", SMALL)
def test_tensors_that_start_off_a_vector_boundary(entry: Entry) -> None:
    arguments = tuple(shifted(argument) for argument in entry.draw())
    require_agreement(entry, simulated(entry, arguments), entry.draw())


def shifted(argument: Any) -> Any:
    """The same tensor one element further into a storage: no address a multiple of 16 bytes."""
    if not isinstance(argument, torch.Tensor):
        return argument
    storage = argument.new_empty(argument.numel() + 1)
    return storage[1:].view_as(argument).copy_(argument)


@pytest.mark.parametrize("entry", SMALL)
def test_no_rows_and_one_row(entry: Entry) -> None:
    n_rows, together = entry.rows, simulated(entry, entry.draw())
    alone = simulated(entry, with_rows(entry, lambda tensor: tensor[:1]))
    for whole, single in zip(together, alone, strict=True):
        assert torch.equal(first_row(whole, n_rows), single)
    none = with_rows(entry, lambda tensor: tensor[:0])
    require_agreement(entry, simulated(entry, none), none)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [marked(entry, False) for entry in ENTRIES if entry.many_rows])
def test_more_rows_than_a_grid_axis_holds(entry: Entry) -> None:
    arguments = with_rows(entry, lambda tensor: tensor[torch.arange(MANY_ROWS) % len(tensor)])
    require_agreement(entry, simulated(entry, arguments, checks=False), arguments)
