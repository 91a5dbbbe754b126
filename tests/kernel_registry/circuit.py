"""Exact inference on circuits: diagrams of permutations, sums, counts and random automata, with labels and without."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch

from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.tables import Compiled, make_tables
from tests.circuits import exactly_graph, from_steps, permutation_graph, random_graph
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

_MORE: dict[str, tuple[Any, ...]] = {"em_gradient": (0.3,), "sample": (3, 7, 2)}


def _sum_graph(n: int, n_values: int) -> Graph:
    """The label is the sum: one entry of many values."""
    return from_steps(n, n_values, lambda i, s, v: s + v, lambda s: s, n * (n_values - 1) + 1)


_GRAPHS = {
    "permutation 3 of 4": partial(permutation_graph, 3, 4),
    "permutation 4": partial(permutation_graph, 4, 4, labelled=False),
    "permutation 8": partial(permutation_graph, 8, 8),
    "sum of 4": partial(_sum_graph, 4, 10),
    "5 of 40": partial(exactly_graph, 5, 40),
    "large": lambda: random_graph(6, 8, 2000, 4, seed=2)[0],
    "random": lambda: random_graph(6, 3, 5, 4, seed=1)[0],
}


@cache
def compiled(name: str, prediction: bool) -> Compiled:
    return make_tables(_GRAPHS[name](), prediction=prediction)


def _logits(graph: Graph, batch: int, sd: float, dtype: torch.dtype) -> torch.Tensor:
    """Hard zeros in the first row but two from the end, and invalid logits in the last."""
    logits = sd * torch.randn(batch, graph.n_symbols, graph.n_values, generator=torch.Generator().manual_seed(0))
    logits[-3, 0, 1:] = float("-inf")
    logits[-1, 1, 0] = float("nan")
    return logits.to(dtype)


def _draw(function: str, name: str, batch: int, sd: float, dtype: torch.dtype, wide: bool) -> tuple[Any, ...]:
    """Labels that are given and not given; the last row but one has an invalid label."""
    graph, (tables, tape_rows) = _GRAPHS[name](), compiled(name, function == "predict")
    logits = _logits(graph, batch, sd, dtype)
    tape = (tape_rows, wide)
    if function == "predict":
        return logits, list(tables), *tape
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, size + 1, (batch,), generator=generator, dtype=torch.int32) for size in graph.given]
    label = torch.stack(rows, 1) if rows else torch.zeros(batch, 0, dtype=torch.int32)
    label[-2] = -1
    return (
        logits,
        label,
        list(tables),
        *(tape if function in ("posterior", "em_gradient") else ()),
        *_MORE.get(function, ()),
    )


def _entry(
    function: str, name: str, batch: int = 9, sd: float = 2.0, dtype: torch.dtype = torch.float32, wide: bool = False,
    **options: Any,
) -> Entry:  # fmt: skip
    case = f"{name}{' wide' if wide else ''}{' extreme' if sd > 100 else ''}{SUFFIXES[dtype]}"
    draw = partial(_draw, function, name, batch, sd, dtype, wide)
    if function == "predict":
        options["n_row_arguments"] = 1
    return Entry("circuit", function, case, draw, **{**tolerance_of(dtype), **options})


ENTRIES = [
    _entry("posterior", "permutation 3 of 4", variants=True),
    _entry("em_gradient", "permutation 3 of 4"),
    _entry("predict", "random", variants=True),
    _entry("map_assignment", "random", variants=True),
    _entry("sample", "random", variants=True),
    _entry("map_assignment", "permutation 3 of 4", interpreted=False),
    _entry("sample", "permutation 4", interpreted=False),
    _entry("posterior", "permutation 4"),
    _entry("posterior", "random", interpreted=False),
    _entry("posterior", "sum of 4", interpreted=False),
    _entry("posterior", "5 of 40", interpreted=False),
    _entry("posterior", "permutation 3 of 4", wide=True),
    _entry("posterior", "permutation 3 of 4", sd=3000.0, slow=True),
    _entry("posterior", "permutation 3 of 4", dtype=torch.float64, slow=True),
    _entry("posterior", "permutation 3 of 4", dtype=torch.bfloat16, slow=True),
    _entry("posterior", "large", batch=10, slow=True, interpreted=False),
    _entry("predict", "large", batch=10, slow=True, interpreted=False),
    _entry("map_assignment", "large", batch=10, slow=True, interpreted=False),
    _entry("sample", "large", batch=10, slow=True, interpreted=False),
    _entry("posterior", "permutation 8", slow=True, interpreted=False),
]
