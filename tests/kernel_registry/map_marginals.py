"""One-hot posteriors, with rows that have the prior: few values, and so many that a tile does not hold them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of


def _draw(n: int, k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(13, n, k, generator=generator)
    logits[4, 0, 1] = float("-inf")
    return logits.to(dtype), torch.randint(k, (13, n), generator=generator), torch.arange(13) % 4 != 0


def _entry(n: int, k: int, dtype: torch.dtype = torch.float32, **options: bool) -> Entry:
    case, draw = f"{n} symbols, {k} values{SUFFIXES[dtype]}", partial(_draw, n, k, dtype)
    return Entry("map_marginals", "map_marginals", case, draw, n_row_arguments=3, **tolerance_of(dtype), **options)


ENTRIES = [
    _entry(5, 10, variants=True),
    _entry(2, 300),
    _entry(5, 10, torch.float64, slow=True),
    _entry(5, 10, torch.bfloat16, slow=True),
]
