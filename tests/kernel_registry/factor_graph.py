"""Belief propagation on factor graphs: all kinds of factors with cycles, a grid, and a ring for two warps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

import emnesy_gpu as em
from emnesy_gpu.kernels.factor_graph_tables import Compiled
from emnesy_gpu.kernels.status import INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import factor_graph as reference
from tests.factor_graphs import board, loops
from tests.kernel_registry.entry import SUFFIXES, Entry, tolerance_of

Settings = tuple[int, float, str, float, bool]
SERIAL: Settings = 3, 0.25, "serial", 1e-4, False
FLOODING: Settings = 3, 0.25, "flooding", 1e-4, False
RESIDUAL: Settings = 3, 0.25, "residual", 1e-4, False
MAXIMISED: Settings = 2, 0.0, "serial", 1e-3, True


@cache
def _tables(make: Callable[[], em.FactorGraph]) -> Compiled:
    return make().tables(torch.device("cpu"))


def _ring() -> em.FactorGraph:
    """Two waves of 64 tables: a thread for each in two warps, which read what the others have written."""
    graph = em.FactorGraph(128, 2)
    for first in (0, 1):
        graph.add(em.factors.table([[3.0, 1.0], [1.0, 2.0]]), [(i, (i + 1) % 128) for i in range(first, 128, 2)])
    return graph


def _draw(make: Callable[[], em.FactorGraph], settings: Settings, scale: float, dtype: torch.dtype) -> tuple[Any, ...]:
    """The last rows have a hard zero, an invalid label and invalid logits."""
    tables = _tables(make)
    n, k = tables.graph.unary.shape
    logits = scale * torch.randn(5, n, k, generator=torch.Generator().manual_seed(n))
    logits[-3, 1, 1] = float("-inf")
    logits[-1, 0, 1] = float("nan")
    return logits.to(dtype), torch.tensor([1, -1, 1, 0, 1]), tables.to_list(), *settings


def _entry(
    name: str, make: Callable[[], em.FactorGraph], settings: Settings = SERIAL, scale: float = 1.0,
    dtype: torch.dtype = torch.float32, **options: Any,
) -> Entry:  # fmt: skip
    schedule = "" if settings[2] == "serial" else f" {settings[2]}"
    case = f"{name}{schedule}{' max' if settings[4] else ''}{SUFFIXES[dtype]}"
    draw = partial(_draw, make, settings, scale, dtype)
    # A thread keeps what is under way for itself, so that there must be as many threads as there are lanes.
    return Entry("factor_graph", "belief_propagation", case, draw, num_warps=(1,), **{**tolerance_of(dtype), **options})


def _search(make: Callable[[], em.FactorGraph], scale: float, dtype: torch.dtype) -> tuple[Any, ...]:
    """Rows as above, but for one with a symbol that has no value left."""
    logits, label, tables, *_ = _draw(make, MAXIMISED, scale, dtype)
    possible = Compiled.from_list(tables).graph.unary > 0
    logits[1, 0] = torch.where(possible[0], float("-inf"), logits[1, 0])
    return logits, label, tables


def _searched(
    name: str,
    make: Callable[[], em.FactorGraph],
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Entry:
    draw = partial(_search, make, scale, dtype)
    return Entry("factor_graph", "search", f"{name}{SUFFIXES[dtype]}", draw, interpreted=False, **options)


def _weigh(make: Callable[[], em.FactorGraph], scale: float, dtype: torch.dtype) -> tuple[Any, ...]:
    """Assignments of all kinds, of which only some have a weight, and a row that is not possible."""
    logits, _, tables, *_ = _draw(make, MAXIMISED, scale, dtype)
    size = Compiled.from_list(tables).graph.size
    generator = torch.Generator().manual_seed(1)
    found = torch.rand(512, len(size), generator=generator, dtype=torch.float64).mul(size).long()
    certain = torch.full((512, *logits.shape[1:]), float("-inf")).scatter(-1, found[..., None], 0.0)
    evidence = reference.belief_propagation(certain, torch.ones(512), tables, 0, 0.0, "serial", 0.0, False)[1]
    z = torch.cat([found[evidence > float("-inf")][:2], found[:3]])
    return logits, z, torch.tensor([POSSIBLE] * 4 + [INVALID_LOGITS], dtype=torch.uint8), tables


def _weighed(
    name: str,
    make: Callable[[], em.FactorGraph],
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Entry:
    draw = partial(_weigh, make, scale, dtype)
    case = f"{name}{SUFFIXES[dtype]}"
    return Entry(
        "factor_graph", "log_joint", case, draw, n_row_arguments=3, num_warps=(1,), **{**tolerance_of(dtype), **options}
    )


ENTRIES = [
    _weighed("loops of all kinds", loops, variants=True),
    _weighed("loops of all kinds", loops, dtype=torch.float64, slow=True),
    _weighed("loops of all kinds extreme", loops, 3000.0, slow=True),
    _weighed("ring of 128", _ring, slow=True),
    _searched("loops of all kinds", loops, every_target=True),
    _searched("loops of all kinds", loops, dtype=torch.float64, slow=True),
    _searched("loops of all kinds extreme", loops, 3000.0, slow=True),
    _searched("ring of 128 extreme", _ring, 3000.0, slow=True),
    _entry("loops of all kinds", loops, variants=True),
    _entry("loops of all kinds", loops, RESIDUAL, every_target=True),
    _entry("grid 4x4 K=2", partial(board, 4, 2), FLOODING, interpreted=False),
    _entry("loops of all kinds extreme", loops, MAXIMISED, scale=3000.0, slow=True),
    _entry("ring of 128", _ring, slow=True, interpreted=False),
]
