"""One launch of the package: a launch function and arguments to call it with."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

SUFFIXES = {torch.float32: "", torch.float64: " float64", torch.bfloat16: " bfloat16"}
"""What the name of a case says about the type of its logits."""


def tolerance_of(dtype: torch.dtype) -> dict[str, Any]:
    """Options of an Entry whose logits have this type."""
    return {"atol": 1e-12, "rtol": 1e-12} if dtype == torch.float64 else {}


@dataclass(frozen=True)
class Entry:
    """A launch function, known by stem and name to every back end, and what to call it with.

    draw: the arguments, the same ones at every call. The first n_row_arguments of them (logits, label) have the
    batch as their first axis; the batch size should be no other size of the problem, so that it can be found in the
    shapes of the results. unit: what one row is, for the figures per instance.
    atol, rtol: of the comparison with the float64 reference; results that are not floating point must be equal.
    num_warps: what `variants` tries; 1 and 8 without --slow.
    slow: compiled and simulated under --slow only. variants: other num_warps, offset views and other batch sizes are
    tried too; for the entry of every kernel that is cheapest to simulate. every_target: compiled for every architecture
    without --slow, as those with variants are. many_rows: 65,537 rows are affordable.
    interpreted: run in Triton's interpreter; False where other tests do the same.
    """

    stem: str
    function: str
    case: str
    draw: Callable[[], tuple[Any, ...]]
    atol: float = 2e-5
    rtol: float = 2e-5
    slow: bool = False
    variants: bool = False
    every_target: bool = False
    many_rows: bool = False
    interpreted: bool = True
    n_row_arguments: int = 2
    num_warps: tuple[int, ...] = (1, 2, 4, 8)
    unit: str = "one row"

    def __str__(self) -> str:
        return f"{self.stem} {self.function} {self.case}"

    @property
    def rows(self) -> int:
        return len(self.draw()[0])

    def run(self, package: str, arguments: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        """The launch function of emnesy_gpu.reference or emnesy_gpu.kernels.gpu."""
        function = getattr(importlib.import_module(f"emnesy_gpu.{package}.{self.stem}"), self.function)
        results = function(*arguments)
        return results if isinstance(results, tuple) else (results,)
