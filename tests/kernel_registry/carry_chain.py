"""Addition: the two-addend scan (whole chains and chunks), tables for more addends, MAP and sampling."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.cases import Case
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

_MORE = {"posterior": (), "em_gradient": (0.5,), "map_assignment": (), "sample": (2, 7, 0)}


def _entry(function: str, case: Case, dtype: torch.dtype = torch.float32, **options: Any) -> Entry:
    name = f"n={case.n_digits} base={case.base} addends={case.n_addends}{SUFFIXES[dtype]}"
    return Entry(
        "carry_chain", function, name, partial(_draw, function, case, dtype), **{**tolerance_of(dtype), **options}
    )


def _draw(function: str, case: Case, dtype: torch.dtype) -> tuple[Any, ...]:
    logits, label = case.draw()
    return logits.to(dtype), label, *_MORE[function]


ENTRIES = [
    _entry("posterior", Case(4, base=3, batch=37), variants=True, many_rows=True),
    _entry("posterior", Case(100, batch=3)),
    _entry("posterior", Case(5, base=5, n_addends=3), variants=True),
    _entry("posterior", Case(3, base=11, n_addends=3), variants=True, num_warps=(1,)),
    _entry("em_gradient", Case(15, batch=9)),
    _entry("em_gradient", Case(4, n_addends=3), slow=True),
    _entry("em_gradient", Case(4, n_addends=4), slow=True),
    _entry("em_gradient", Case(3, base=5, n_addends=3), torch.float64, slow=True),
    _entry("map_assignment", Case(4, base=5, batch=5), variants=True, many_rows=True),
    _entry("sample", Case(3, base=5, batch=5), variants=True),
    _entry("posterior", Case(520, base=3, batch=2), variants=True, num_warps=(4, 8)),
    _entry("posterior", Case(200, batch=3), slow=True),
    _entry("posterior", Case(256, batch=3), slow=True),
    _entry("em_gradient", Case(512, batch=3), slow=True),
    _entry("posterior", Case(513, batch=1), slow=True),
    _entry("em_gradient", Case(5000, batch=1), slow=True),
    _entry("em_gradient", Case(15, base=2, batch=9), slow=True),
    _entry("em_gradient", Case(15, base=16, batch=9), slow=True),
    _entry("em_gradient", Case(15, base=32, batch=9), slow=True),
    _entry("em_gradient", Case(15, batch=9), torch.bfloat16, slow=True),
    _entry("em_gradient", Case(15, batch=9), torch.float64, slow=True),
    _entry("posterior", Case(5, hard_zeros=0.3, batch=9), slow=True),
    _entry("em_gradient", Case(3, base=32, n_addends=4, batch=5), slow=True),
    _entry("em_gradient", Case(2, base=32, n_addends=4, batch=5), torch.float64, slow=True),
    _entry("map_assignment", Case(15, batch=5), slow=True),
    _entry("map_assignment", Case(4, n_addends=3, batch=5), slow=True),
    _entry("map_assignment", Case(4, n_addends=4, batch=5), slow=True),
    _entry("map_assignment", Case(4, n_addends=3, batch=5), torch.float64, slow=True),
    _entry("map_assignment", Case(4, base=5, n_addends=3, batch=5), torch.float64, slow=True),
    _entry("map_assignment", Case(3, base=32, batch=5), slow=True),
    _entry("map_assignment", Case(3, batch=5), torch.float64, slow=True),
    _entry("sample", Case(15, batch=5), slow=True),
    _entry("sample", Case(4, n_addends=3, batch=5), slow=True),
    _entry("sample", Case(4, n_addends=4, batch=5), slow=True),
    _entry("map_assignment", Case(3, base=11, n_addends=3), slow=True),
    _entry("map_assignment", Case(3, base=32, n_addends=4), slow=True),
    _entry("sample", Case(3, base=11, n_addends=3), slow=True),
    _entry("sample", Case(3, base=32, n_addends=4), slow=True),
]
