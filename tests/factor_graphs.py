"""Graphs for tests, and their posteriors by enumeration."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

import emnesy_gpu as em


def assignments(graph: em.FactorGraph) -> Tensor:
    """All assignments of all values, int64 [K^n, n]."""
    return torch.tensor(list(itertools.product(range(graph.cardinality), repeat=graph.n_variables)))


def enumerate_posterior(graph: em.FactorGraph, logits: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Marginals [batch, n, K] and log evidence [batch]; weights [K^n] of all assignments, by default of the graph."""
    z = assignments(graph)
    log_weights = graph.log_weight(z) if weights is None else weights.double().log()
    log_prior = torch.log_softmax(logits.double(), -1)
    log_joint = log_prior[:, torch.arange(graph.n_variables), z].sum(-1) + log_weights
    log_evidence = torch.logsumexp(log_joint, 1)
    shares = (log_joint - log_evidence[:, None]).exp()
    one_hot = torch.nn.functional.one_hot(z, graph.cardinality).double()
    return torch.einsum("ba,ank->bnk", shares, one_hot), log_evidence


def tree() -> em.FactorGraph:
    """Tables of two and three symbols, a parity and a chain, mixed cardinalities, without a cycle."""
    generator = torch.Generator().manual_seed(1)

    def weights(*sizes: int) -> Tensor:
        return 3.0 * torch.rand(sizes, generator=generator)

    graph = em.FactorGraph(9, [2, 3, 2, 2, 3, 2, 3, 3, 2])
    graph.add(em.factors.table(weights(2, 3)), (0, 1))
    graph.add(em.factors.parity(1), (0, 2, 3))
    graph.add(em.factors.table(weights(3, 2, 2)), (4, 3, 5))
    graph.add(em.factors.order(), (1, 6, 7))
    graph.add(em.factors.table([1.0, 2.0]), (8,))
    return graph


def loops() -> em.FactorGraph:
    """The tree, with more factors that close cycles."""
    graph = tree()
    graph.add(em.factors.not_equal(), [(1, 4), (6, 4)])
    graph.add(em.factors.exactly(2), (0, 5, 8, 2))
    return graph


def hard_tree() -> em.FactorGraph:
    """Constraints of one to three symbols, without a cycle."""
    graph = em.FactorGraph(7, 3)
    graph.add(em.factors.linear([1, 2, 1], 4, "<="), (0, 1, 2))
    graph.add(em.factors.all_different(), (2, 3, 4))
    graph.add(em.factors.not_equal(), (4, 5))
    graph.add(em.factors.allowed([(0,), (2,)]), (6,))
    return graph


def pairs(seed: int) -> em.FactorGraph:
    """A table of its own for each of up to 60 pairs of symbols of 1 to 5 values, some without a pair; hard zeros."""
    generator = torch.Generator().manual_seed(seed)
    most = int(torch.randint(2, 6, (), generator=generator))
    sizes = torch.randint(1, most + 1, (20,), generator=generator).tolist()
    graph, degree = em.FactorGraph(20, [*sizes[:-1], most]), [0] * 20
    for pair in torch.combinations(torch.arange(20))[torch.randperm(190, generator=generator)[:60]].tolist():
        if all(degree[i] < 5 for i in pair):
            weights = torch.rand([graph._sizes[i] for i in pair], generator=generator)
            graph.add(em.factors.table(weights.where(weights > 0.1, 0.0).index_fill_(0, torch.tensor(0), 0.5)), pair)
            for i in pair:
                degree[i] += 1
    return graph


def crowd() -> em.FactorGraph:
    """Two symbols with many neighbours, of pairs in either order and of factors of other kinds."""
    generator = torch.Generator().manual_seed(5)
    graph = em.FactorGraph(24, [3] * 12 + [2] * 12)
    for first, second in [(0, i) for i in range(1, 12)] + [(i, 0) for i in range(12, 24)]:
        sizes = 2 + (first < 12), 2 + (second < 12)
        graph.add(em.factors.table(0.05 + torch.rand(*sizes, generator=generator)), (first, second))
    graph.add(em.factors.not_equal(), [(12, i) for i in range(13, 22)])
    graph.add(em.factors.parity(), [*range(12, 20)])
    graph.add(em.factors.exactly(3), [*range(14, 24)])
    return graph


def star(cardinality: int | list[int]) -> em.FactorGraph:
    """A symbol with 70 neighbours, some of which share other factors."""
    graph = em.FactorGraph(71, cardinality)
    generator = torch.Generator().manual_seed(2)
    for i in range(1, 71):
        sizes = graph._sizes[0], graph._sizes[i]
        graph.add(em.factors.table(0.2 + torch.rand(sizes, generator=generator)), (0, i))
    graph.add(em.factors.parity(1), [(1, 2, 3), (4, 5, 6)])
    graph.add(em.factors.at_most(2), (0, 8, 9, 10) if graph._sizes[0] == 2 else (8, 9, 10))
    return graph


def board(size: int, values: int) -> em.FactorGraph:
    """A grid of equal tables that make neighbours alike."""
    graph = em.FactorGraph(size * size, values, latent_shape=(size, size))
    graph.add(em.factors.pairwise(1.0 + torch.eye(values)), grid_pairs(size))
    return graph


def grid_pairs(size: int) -> list[tuple[int, int]]:
    cells = [(row, column) for row in range(size) for column in range(size)]
    right = [(r * size + c, r * size + c + 1) for r, c in cells if c + 1 < size]
    return right + [(r * size + c, (r + 1) * size + c) for r, c in cells if r + 1 < size]


def draw(
    graph: em.FactorGraph, batch: int, sd: float = 2.0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Logits, and labels that are all 1."""
    generator = torch.Generator().manual_seed(batch)
    logits = sd * torch.randn(batch, *graph.latent_shape, graph.cardinality, generator=generator)
    return logits.to(dtype), torch.ones(batch, dtype=torch.int64)
