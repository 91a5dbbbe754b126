"""Values of a circuit on the host, for questions that are asked once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits.graph import Graph


def evaluate(graph: Graph, leaves: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of all rows [rows, batch] in float64; leaves [leaves, batch], those of the label included."""
    values = np.empty((graph.n_rows, leaves.shape[1]))
    values[: graph.n_leaves], values[graph.n_leaves] = leaves, 1.0
    fixed = graph.n_leaves + 1
    for nodes, terms in graph.by_level():
        products = values[graph.left[terms]] * values[graph.right[terms]]
        values[fixed:][nodes] = np.add.reduceat(products, graph.first[nodes] - terms.start, axis=0)
    return values


def uniform_evidence(graph: Graph) -> float:
    """The evidence of a label where symbols and labels know nothing; 0 where float64 underflows."""
    n_hidden = graph.n_symbols * graph.n_values
    sizes = np.concatenate([np.full(n_hidden, graph.n_values), np.repeat(graph.given, graph.given)])
    return float(evaluate(graph, 1.0 / sizes[:, None])[-1, 0])
