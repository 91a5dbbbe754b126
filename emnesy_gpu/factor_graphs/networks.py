"""Bayesian networks: whether tables are conditional probabilities, and parents come before their children."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emnesy_gpu.factor_graphs.chains import Floats
from emnesy_gpu.factor_graphs.potentials import checked_weights

CONDITIONAL = 1e-3
"""How far from 1 the sums of a conditional table may be: people and files round their numbers."""


def checked_network(n: int, tables: Mapping[int, tuple[Sequence[int], Any]]) -> Iterator[tuple[Floats, list[int]]]:
    """Each table of a Bayesian network and its scope, the variable last, from its parents and its rows.

    Raises TypeError and ValueError for what is no network.
    """
    _check_acyclic(n, {child: parents for child, (parents, _) in tables.items()})
    for child, (parents, rows) in tables.items():
        name = f"the table of variable {child}"
        weights = checked_weights(name, rows)
        check_rows(name, weights)
        yield weights, [*parents, child]


def check_rows(name: str, table: Floats) -> None:
    """Raise ValueError unless every row, over the last axis, has sum 1."""
    sums = table.sum(-1)
    wrong = np.abs(sums - 1.0) > CONDITIONAL
    if wrong.any():
        raise ValueError(f"{name} must have rows of sum 1, p(value | parents), got {float(sums[wrong].flat[0]):g}")


def _check_acyclic(n: int, parents_of: Mapping[int, Sequence[int]]) -> None:
    """Raise ValueError for children that do not exist, or that are among their own ancestors."""
    for child in parents_of:
        if isinstance(child, bool) or not isinstance(child, int) or not 0 <= child < n:
            raise ValueError(f"tables must have variables in 0..{n - 1} as keys, got {child!r}")
    left = {child: set(parents) for child, parents in parents_of.items()}
    while left:
        ready = [child for child, parents in left.items() if not parents & left.keys()]
        if not ready:
            raise ValueError(f"the parents must not form a cycle, but those of {sorted(left)} do")
        for child in ready:
            del left[child]
