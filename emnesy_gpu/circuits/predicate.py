"""From a function of all symbols to its circuit, by trying all assignments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emnesy_gpu.automata.compile import compile_tables
from emnesy_gpu.automata.labels import Observer
from emnesy_gpu.circuits.diagram import machine_graph
from emnesy_gpu.circuits.program import Labelled

MOST_ASSIGNMENTS = 1 << 20
ASSIGNMENTS_AT_A_TIME = 1 << 16


def compile_predicate(
    predicate: Callable[[Any], Any], n_symbols: int, cardinality: int, labels: Iterable[Hashable] = ()
) -> Labelled:
    """The decision diagram of a function of all symbols.

    Args:
        predicate: int64 tensor [M, n_symbols] -> M labels: bools, or integers, negative where there is none.
        n_symbols, cardinality: at most 2^20 assignments, all of which are tried.
        labels: labels that exist even where no assignment has them; with bools both always do.

    Raises ValueError for more assignments, and for a predicate that returns something else.

    >>> compile_predicate(lambda z: z.sum(1) == 3, 3, 4).labels
    [(False, True)]
    """
    n_assignments = cardinality**n_symbols
    if n_assignments > MOST_ASSIGNMENTS:
        raise ValueError(
            f"{cardinality}^{n_symbols} assignments are too many to try, the limit is {MOST_ASSIGNMENTS}: use a "
            "formula of em.logic, clauses or a step function"
        )
    numbers = [
        np.arange(start, min(start + ASSIGNMENTS_AT_A_TIME, n_assignments))
        for start in range(0, n_assignments, ASSIGNMENTS_AT_A_TIME)
    ]
    found = np.concatenate([_labels(predicate, part, n_symbols, cardinality) for part in numbers])
    names = found.tolist() if found.dtype.kind == "b" else [None if label < 0 else label for label in found.tolist()]
    declared = (False, True) if found.dtype.kind == "b" else tuple(labels)
    tables = [np.arange(cardinality ** (i + 1)).reshape(-1, cardinality) for i in range(n_symbols)]
    sizes = [cardinality**i for i in range(n_symbols + 1)]
    machine = compile_tables(tables, sizes, names, Observer(None, None, declared))
    return Labelled(machine_graph(machine), [seen.labels for seen in machine.observed.values()])


def _labels(predicate: Callable[[Any], Any], numbers: NDArray[np.int64], n: int, k: int) -> NDArray[Any]:
    z = torch.from_numpy(np.stack([numbers // k ** (n - 1 - i) % k for i in range(n)], 1))
    found = predicate(z)
    labels = found.cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    if labels.shape != numbers.shape or labels.dtype.kind not in "biu":
        raise ValueError(
            f"the predicate must return a bool or an integer for each of {len(numbers)} assignments, got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    return labels
