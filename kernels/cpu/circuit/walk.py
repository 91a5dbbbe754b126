"""From the root of a circuit to the symbols, along one chosen term of every node on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.program import term_at
from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item


@lane_function
def terms_of(p, row):
    """The first term of a node, and one past its last."""
    node = p.first + row - p.one - 1
    return item(p.numbers, node), item(p.numbers, node + 1)


@lane_function
def new_stack(p):
    """Memory for the rows that wait: each level of the circuit adds one at most."""
    return np.empty(p.depth + 2, np.int64)


def walker(choose: Callable[..., int]) -> Callable[..., Any]:
    """A device function that walks by a rule: choose(program of nodes, row of a node, place) -> one of its terms."""

    @lane_function
    def walk(p, place, assignment, stack):
        """Write the values of the symbols that the chosen terms mention into assignment [n]."""
        stack[0], size, n_hidden = p.root, 1, p.n * p.n_values
        while size > 0:
            size -= 1
            row = stack[size]
            if row < n_hidden:
                assignment[row // p.n_values] = row % p.n_values
            elif row > p.one:
                stack[size], stack[size + 1] = term_at(p.terms, choose(p, row, place))
                size += 2

    return walk
