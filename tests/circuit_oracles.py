"""Brute force for circuits whose label says whether a theory holds, and small theories as clauses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits import checks
from emnesy_gpu.circuits.graph import Graph

Clauses = list[list[int]]


def assignments(n_symbols: int, n_values: int) -> NDArray[np.int64]:
    """[K^n, n] in lexicographic order."""
    return np.array(list(itertools.product(range(n_values), repeat=n_symbols))).reshape(-1, n_symbols)


def assert_theory(graph: Graph, holds: NDArray[np.bool_], allowed: NDArray[np.bool_] | None = None) -> None:
    """The circuit is sound, and has exactly the assignments of each label. allowed: those that have a label at all."""
    checks.check(graph)
    z = assignments(graph.n_symbols, graph.n_values)
    allowed = np.ones(len(z), bool) if allowed is None else allowed
    by_label = {1: holds & allowed, 0: ~holds & allowed}
    if graph.given == (1,):
        by_label = {0: by_label[1]}  # the only value of the label: the theory holds
    for label, wanted in by_label.items():
        found = checks.count_parts(graph, z, np.full((len(z), 1), label))
        np.testing.assert_array_equal(found, wanted.astype(float))
        assert checks.model_count(graph, label) == wanted.sum()
        if wanted.any():
            assert_posterior(graph, z[wanted], label)


def assert_posterior(graph: Graph, z: NDArray[np.int64], label: int) -> None:
    """Marginals and evidence under random leaves, against the sum over the assignments z."""
    rng = np.random.default_rng(len(z))
    leaves = rng.dirichlet(np.ones(graph.n_values), (3, graph.n_symbols))
    joint = np.take_along_axis(leaves[:, None], z[None, :, :, None], 3)[..., 0].prod(2)
    one_hot = z[:, :, None] == np.arange(graph.n_values)
    q, evidence = checks.posterior(graph, leaves, np.full((3, 1), label))
    np.testing.assert_allclose(evidence, joint.sum(1), rtol=1e-12)
    expected = np.einsum("bm,mnk->bnk", joint, one_hot) / joint.sum(1)[:, None, None]
    np.testing.assert_allclose(q, expected, rtol=0, atol=1e-12)


def satisfied(clauses: Clauses, bits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether all clauses hold; bits [M, n], variable v is column v - 1."""
    truth = np.ones(len(bits), bool)
    for clause in clauses:
        truth &= np.any([bits[:, abs(literal) - 1] == (literal > 0) for literal in clause] or [truth & False], axis=0)
    return truth


def random_clauses(n: int, ratio: float, seed: int, width: int = 3) -> Clauses:
    rng = np.random.default_rng(seed)
    clauses = []
    for _ in range(int(n * ratio)):
        chosen = rng.choice(n, width, replace=False) + 1
        clauses.append([int(v) if rng.random() < 0.5 else -int(v) for v in chosen])
    return clauses


def one_hot_variables(cardinalities: Sequence[int]) -> dict[int, tuple[int, int]]:
    """variable -> (symbol, value)."""
    pairs = [(symbol, value) for symbol, k in enumerate(cardinalities) for value in range(k)]
    return dict(enumerate(pairs, 1))


def not_equal_clauses(n: int, k: int, related: Callable[[int, int], bool]) -> Clauses:
    """Different values for related symbols; variable i * k + v + 1: symbol i has value v."""
    pairs = [(i, j) for i, j in itertools.combinations(range(n), 2) if related(i, j)]
    return [[-(i * k + v + 1), -(j * k + v + 1)] for i, j in pairs for v in range(k)]
