"""Bayesian networks: whether tables are conditional probabilities, and parents come before their children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from emnesy_gpu.factor_graphs.chains import Floats

CONDITIONAL = 1e-3
"""How far from 1 the sums of a conditional table may be: people and files round their numbers."""


def check_rows(name: str, table: Floats) -> None:
    """Raise ValueError unless every row, over the last axis, has sum 1."""
    sums = table.sum(-1)
    wrong = np.abs(sums - 1.0) > CONDITIONAL
    if wrong.any():
        raise ValueError(f"{name} must have rows of sum 1, p(value | parents), got {float(sums[wrong].flat[0]):g}")


def check_acyclic(n: int, parents_of: Mapping[int, Sequence[int]]) -> None:
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
