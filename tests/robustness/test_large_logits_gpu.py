"""Finite logits beyond +-1e12 count as +-1e12 in every GPU kernel that loads logits."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not compiled", allow_module_level=True)

from emnesy_gpu.ops.registry import bounded
from profiling.gpu_simulator import Options, simulated_triton
from tests.kernel_registry import ENTRIES, Entry
from tests.robustness.test_large_logits import large

COPIES = ("label_digits",)
"""Stems that only copy logits, to a kernel that counts them so."""


def of_logits() -> Iterator[Entry]:
    """The first entry of every launch function that computes with logits, and those of other types of theirs."""
    seen = set()
    for entry in ENTRIES:
        function = getattr(importlib.import_module(f"emnesy_gpu.reference.{entry.stem}"), entry.function)
        logits = entry.draw()[0]
        kind = entry.stem, entry.function, logits.dtype
        is_new = kind not in seen and not entry.slow and entry.stem not in COPIES
        if is_new and next(iter(inspect.signature(function).parameters)) == "logits":
            seen.add(kind)
            yield entry


SMALLEST = [pytest.param(entry, id=str(entry).replace(" ", "-")) for entry in of_logits()]
SIZES = (1e13, 1e30, 3e38)


def with_large_logits(entry: Entry) -> tuple[Any, ...]:
    """The arguments of an entry with a size for each row in turn, some hard zeros, and +inf in the last row."""
    logits, *rest = entry.draw()
    rows = [large(logits, SIZES[row % len(SIZES)])[row] for row in range(len(logits))]
    logits = torch.stack(rows)
    logits[1::2].masked_fill_(logits[1::2] == -SIZES[1], -torch.inf)
    logits[-1].view(-1)[0] = torch.inf
    return logits, *rest


def assert_large_logits_count_as_the_largest(entry: Entry, run: Callable[..., tuple[Tensor, ...]]) -> None:
    """To the bit, and with the values of the reference."""
    arguments = with_large_logits(entry)
    logits, as_if = arguments[0], (bounded(arguments[0]), *arguments[1:])
    # Some launch functions write into their arguments.
    found, expected = run("kernels.gpu", deepcopy(arguments)), run("kernels.gpu", deepcopy(as_if))
    reference = entry.run("reference", deepcopy(as_if))
    for mine, same, theirs in zip(found, expected, reference, strict=True):
        torch.testing.assert_close(mine, same, atol=0, rtol=0, equal_nan=True)
        axis = mine.shape.index(len(logits))
        valid, wanted = (part.narrow(axis, 0, len(logits) - 1) for part in (mine, theirs))
        if entry.stem == "carry_chain" and mine.shape == logits.shape and mine.is_floating_point():
            # float32 logarithms near 1e12 have no digits for the others: see docs/limits.md.
            torch.testing.assert_close(valid.sum(-1), wanted.sum(-1).to(valid.dtype), atol=1e-5, rtol=0)
            continue
        torch.testing.assert_close(valid, wanted, atol=1e-3, rtol=1e-5)
        if mine.dtype == torch.uint8 and entry.stem != "given_label":  # which is told which rows are broken
            assert mine.equal(theirs)


@pytest.mark.parametrize("entry", SMALLEST)
def test_simulated_kernels_count_larger_logits_as_the_largest(entry: Entry) -> None:
    def run(package: str, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
        with simulated_triton(80, Options(checks=False, counters=False)):
            return entry.run(package, arguments)

    assert_large_logits_count_as_the_largest(entry, run)


@pytest.mark.slow
@pytest.mark.parametrize("entry", SMALLEST)
def test_interpreted_kernels_count_larger_logits_as_the_largest(entry: Entry, interpreter: Callable[..., Any]) -> None:
    assert_large_logits_count_as_the_largest(entry, lambda *where: interpreter(entry.run, *where))
