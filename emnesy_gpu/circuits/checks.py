"""Whether a circuit is what inference needs: decomposable and deterministic; and how many assignments it has."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu import checks
from emnesy_gpu.circuits.evaluate import evaluate
from emnesy_gpu.circuits.graph import Graph, Rows
from emnesy_gpu.circuits.tables import symbol_sets

MOST_ASSIGNMENTS = 1 << 14
"""Up to so many assignments all of them are tried, beyond that samples of them."""

LARGEST_TABLE = 1 << 24
"""Entries of a table of values, rows of the circuit times assignments, that are held at a time."""

N_PROBES = 256
"""Assignments that are sampled from the circuit."""

Values = NDArray[np.float64]


def check(graph: Graph, seed: int = 0) -> None:
    """Raise ValueError for a circuit that is not decomposable or not deterministic, see the two functions below."""
    checks.is_integer("seed", seed, 0, checks.LARGEST_SEED)
    check_decomposable(graph)
    check_deterministic(graph, seed)


def check_decomposable(graph: Graph) -> None:
    """Raise ValueError where the two rows of a product mention one symbol. Exact."""
    sets = symbol_sets(graph, every_part=False)
    for _, terms, _ in graph.by_level:
        both = sets[graph.left[terms]] & sets[graph.right[terms]]
        bad = both.any(1)
        if bad.any():
            term = int(np.argmax(bad))
            symbol = int(np.argmax(np.unpackbits(both[term].view(np.uint8), bitorder="little")))
            raise ValueError(
                f"the circuit is not decomposable: both rows of a product, {graph.left[terms][term]} and "
                f"{graph.right[terms][term]}, mention symbol {symbol}"
            )


def check_deterministic(graph: Graph, seed: int = 0) -> None:
    """Raise ValueError where an assignment and a label satisfy two parts of the circuit, or two labels go together.

    Exact for up to 2^14 assignments. Beyond that by assignments that are sampled from the circuit itself under random
    leaves: a share w of its evidence in parts that overlap is missed with probability (1 - w)^256.
    """
    n, k = graph.n_symbols, graph.n_values
    if k**n <= MOST_ASSIGNMENTS:
        numbers = np.arange(k**n)
        assignments = np.stack([numbers // k ** (n - 1 - i) % k for i in range(n)], 1)
    else:
        assignments = sample_assignments(graph, N_PROBES, seed)
    counts = count_parts(graph, assignments)
    if (counts > 1).any():
        row = int(np.argmax(counts > 1))
        raise ValueError(
            f"the circuit is not deterministic: {counts[row]:.0f} of its parts hold for the assignment "
            f"{assignments[row].tolist()}, and only one may. If it comes from clauses with auxiliary variables, these "
            "must be functions of the others"
        )


def count_parts(graph: Graph, assignments: Rows, label: Rows | None = None) -> Values:
    """How many parts of the circuit hold for each of the assignments [B, n]; label [B, M], by default not given."""
    leaves = np.zeros((len(assignments), graph.n_symbols, graph.n_values))
    np.put_along_axis(leaves, assignments[:, :, None], 1.0, 2)
    return evidence(graph, leaves, label)


def evidence(graph: Graph, leaves: Values, label: Rows | None = None) -> Values:
    """The value of the root in float64: leaves [B, n, K], label int [B, M] by value, -1 or None: not given."""
    values = np.empty(len(leaves))
    step = max(1, LARGEST_TABLE // graph.n_rows)
    for start in range(0, len(leaves), step):
        part = slice(start, start + step)
        values[part] = table_of_values(graph, leaves[part], None if label is None else label[part])[-1]
    return values


def table_of_values(graph: Graph, leaves: Values, label: Rows | None = None) -> Values:
    """The values of all rows [rows, B]."""
    columns = [leaves.reshape(len(leaves), -1)]
    for entry, size in enumerate(graph.given):
        given = np.full(len(leaves), -1) if label is None else label[:, entry]
        columns.append((given[:, None] < 0) | (given[:, None] == np.arange(size)))
    return evaluate(graph, np.concatenate(columns, 1).T)


def derivatives(graph: Graph, values: Values) -> Values:
    """The derivatives of the root with respect to all rows [rows, B], from the values of all rows."""
    result = np.zeros_like(values)
    result[-1] = 1.0
    for _, terms, _ in reversed(graph.by_level):
        above = result[graph.parent[terms]]
        left, right = graph.left[terms], graph.right[terms]
        np.add.at(result, left, above * values[right])
        np.add.at(result, right, above * values[left])
    return result


def posterior(graph: Graph, leaves: Values, label: Rows | None = None) -> tuple[Values, Values]:
    """Marginals [B, n, K] and evidence [B]; leaves as in ``evidence``, those of a symbol sum to 1."""
    values = table_of_values(graph, leaves, label)
    slopes = derivatives(graph, values)[: graph.n_symbols * graph.n_values]
    q = leaves * slopes.T.reshape(leaves.shape) / values[-1][:, None, None]
    return q + leaves * np.maximum(0.0, 1.0 - q.sum(2, keepdims=True)), values[-1]


def sample_assignments(graph: Graph, n_samples: int, seed: int) -> Rows:
    """Assignments [S, n] that satisfy the circuit with some label, by a walk down from the root for each."""
    rng = np.random.default_rng(seed)
    n, k, fixed = graph.n_symbols, graph.n_values, graph.n_leaves + 1
    z = rng.integers(0, k, (n_samples, n))
    step = max(1, LARGEST_TABLE // graph.n_rows)
    for start in range(0, n_samples, step):
        rows = z[start : start + step]
        table = table_of_values(graph, rng.dirichlet(np.ones(k), (len(rows), n)))
        chosen = np.zeros(table.shape, bool)
        chosen[-1] = True
        for nodes, _, _ in reversed(graph.by_level):
            node, sample = np.nonzero(chosen[fixed + nodes.start : fixed + nodes.stop])
            for s, term in zip(sample, _drawn_terms(graph, table, nodes.start + node, sample, rng), strict=True):
                chosen[graph.left[term], s] = chosen[graph.right[term], s] = True
        leaf, sample = np.nonzero(chosen[: n * k])
        rows[sample, leaf // k] = leaf % k
    return z


def _drawn_terms(graph: Graph, table: Values, nodes: Rows, sample: Rows, rng: np.random.Generator) -> list[int]:
    """A term of each node, by its share of the value of the node."""
    drawn = []
    for node, s, u in zip(nodes.tolist(), sample.tolist(), rng.random(len(nodes)).tolist(), strict=True):
        terms = slice(int(graph.first[node]), int(graph.first[node + 1]))
        shares = np.cumsum(table[graph.left[terms], s] * table[graph.right[terms], s])
        drawn.append(terms.start + min(int(np.searchsorted(shares, u * shares[-1], "right")), len(shares) - 1))
    return drawn


def model_count(graph: Graph, label: int | None = None) -> int:
    """How many assignments of the symbols the circuit has, exactly; label: the value of its only entry.

    >>> first, left, right = np.array([0, 2]), np.array([1, 0]), np.array([6, 3])
    >>> model_count(Graph(3, 2, (), first, left, right))  # of three bits: bit 0, or bit 1 alone
    6
    """
    sets = symbol_sets(graph, every_part=False)
    n_hidden, fixed, k = graph.n_symbols * graph.n_values, graph.n_leaves + 1, graph.n_values
    counts: list[int] = [1] * fixed
    if label is not None:
        for value in range(sum(graph.given)):
            counts[n_hidden + value] = int(value == label)
    n_mentioned = np.concatenate([_bits(sets[start : start + 65536]) for start in range(0, len(sets), 65536)])
    for nodes, terms, _ in graph.by_level:
        left, right = graph.left[terms], graph.right[terms]
        missing = n_mentioned[graph.parent[terms]] - n_mentioned[left] - n_mentioned[right]
        term = zip(left.tolist(), right.tolist(), missing.tolist(), strict=True)
        for size in np.diff(graph.first[nodes.start : nodes.stop + 1]).tolist():
            counts.append(sum(counts[a] * counts[b] * k**m for a, b, m in islice(term, size)))
    return counts[-1] * k ** (graph.n_symbols - int(n_mentioned[-1]))


def _bits(sets: NDArray[np.uint64]) -> Rows:
    return np.unpackbits(sets.view(np.uint8), axis=1).sum(1, dtype=np.int64)
