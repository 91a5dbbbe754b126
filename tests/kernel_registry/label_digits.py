"""Labels of factors as symbols, also those that are not given."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from emnesy_gpu.kernels.factor_graph_tables import LabelDigits
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

ROWS = 37


def _draw(n: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """Entries of 9 and of 3 labels, with two digits and one; n symbols of 3 values."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, n, 3, generator=generator)
    label = torch.randint(-1, 9, (ROWS, 2), generator=generator).clamp(max=torch.tensor([8, 2]))
    columns = torch.tensor([[0, 0, 1], [9, 9, 3], [3, 1, 1]])
    return logits.to(dtype), label, LabelDigits(*columns, 3)


def _results() -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    evidence, share = torch.randn(2, ROWS, generator=generator)
    evidence[3] = float("-inf")
    return evidence, torch.randint(4, (ROWS,), generator=generator, dtype=torch.uint8), share


def _entry(n: int, dtype: torch.dtype = torch.float32, **options: bool) -> Entry:
    draw = partial(_draw, n, dtype)
    return Entry("label_digits", "with_digits", f"{n} symbols{SUFFIXES[dtype]}", draw, **tolerance_of(dtype), **options)


ENTRIES = [
    _entry(5, variants=True),
    _entry(200, torch.float64, slow=True),
    _entry(5, torch.bfloat16, slow=True),
    Entry("label_digits", "without_digits", "37 rows", _results, n_row_arguments=3, variants=True),
]
