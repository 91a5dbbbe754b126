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
    for nodes, terms, first in graph.by_level:
        products = values.take(graph.left[terms], 0) * values.take(graph.right[terms], 0)  # faster than an index
        values[fixed:][nodes] = np.add.reduceat(products, first, axis=0)
    return values


def uniform_evidence(graph: Graph) -> float:
    """The evidence where symbols know nothing, 0 where float64 underflows.

    Of a label of two values it is that of the rarer one, if both are possible; of others that of a value on average.
    """
    n_hidden = graph.n_symbols * graph.n_values
    of_label = np.eye(2) if graph.given == (2,) else 1.0 / np.repeat(graph.given, graph.given)[:, None]
    leaves = np.full((graph.n_leaves, of_label.shape[1]), 1.0 / graph.n_values)
    leaves[n_hidden:] = of_label
    evidence = evaluate(graph, leaves)[-1]
    return float(evidence.min() or evidence.max())
