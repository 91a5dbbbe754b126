"""Whether an assignment is one of a list, as a circuit with a part for each answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.compile import compile_tables
from emnesy_gpu.automata.labels import Observer
from emnesy_gpu.circuits.diagram import machine_graph
from emnesy_gpu.circuits.graph import Graph


def listed_graph(assignments: NDArray[np.uint8], n_values: int) -> Graph:
    """The decision diagram of a list [M, N] of different assignments; the label is 1 for those in it, 0 for others.

    >>> graph = listed_graph(np.array([[0, 1], [1, 0]], np.uint8), n_values=2)
    >>> graph.n_symbols, graph.given, graph.n_edges
    (2, (2,), 6)
    """
    n = assignments.shape[1]
    beginning, tables, sizes = np.zeros(len(assignments), np.int64), [], [2]
    for i in range(n):
        grown = np.unique(beginning * n_values + assignments[:, i], return_inverse=True)
        keys, after = grown[0], grown[1].reshape(-1)
        table = np.full((sizes[-1], n_values), len(keys), np.int64)  # the last state: no longer in the list
        table[keys // n_values, keys % n_values] = np.arange(len(keys))
        tables.append(table)
        sizes.append(len(keys) + 1)
        beginning = after
    labels = [1] * (sizes[-1] - 1) + [0]
    return machine_graph(compile_tables(tables, sizes, labels, Observer(None, None)))
