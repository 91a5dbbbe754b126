"""All assignments of a few symbols: sums of digits, labels of two entries, scores, and rows whose label is unlikely."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.joint_tables import per_row, sums_and_parities
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

_MORE: dict[str, tuple[float, ...]] = {
    "posterior": (),
    "em_gradient": (0.3,),
    "map_assignment": (),
    "sample": (2, 7, 0),
}
_SIZES = {"3 digits": (10, 10, 10), "mixed": (2, 4, 1, 3), "9 bits": (2,) * 9}


def _entry(function: str, name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Entry:
    draw = partial(_draw, function, name, dtype)
    return Entry("joint_table", function, f"{name}{SUFFIXES[dtype]}", draw, **{**tolerance_of(dtype), **options})


def _draw(function: str, name: str, dtype: torch.dtype) -> tuple[Any, ...]:
    """Rows with a label, one of which is unlikely, and one has none."""
    sizes = _SIZES[name.removesuffix(", scores")]
    table = sums_and_parities(sizes)
    generator = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(7, len(sizes), max(sizes), generator=generator)
    label = table.known[torch.arange(7) * 5 % len(table.known)].clone()
    logits[1] -= torch.arange(max(sizes)) * 60.0
    label[1] = table.known[-1]
    label[2, 1] = 7
    logits[3, -1, 0] = float("-inf")
    return logits.to(dtype), label, per_row(table, label) if name.endswith("scores") else table, *_MORE[function]


ENTRIES = [
    _entry("posterior", "3 digits", variants=True),
    _entry("em_gradient", "mixed", variants=True),
    _entry("map_assignment", "mixed", variants=True),
    _entry("sample", "mixed", variants=True),
    _entry("posterior", "mixed, scores"),
    _entry("posterior", "mixed", torch.float64, every_target=True),
    _entry("map_assignment", "3 digits", slow=True),
    _entry("sample", "3 digits", slow=True),
    _entry("posterior", "9 bits", slow=True),
    _entry("em_gradient", "3 digits", torch.float64, slow=True),
    _entry("posterior", "mixed", torch.bfloat16, slow=True),
    _entry("map_assignment", "mixed", torch.float64, slow=True),
    _entry("sample", "mixed, scores", slow=True),
]
