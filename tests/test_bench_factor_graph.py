"""pytest --benchmark-only: time of belief propagation on grids of tables and on a code of parities."""

from __future__ import annotations

import pytest
import torch

import emnesy_gpu as em
from tests.factor_graphs import board, draw

SWEEPS = 20


def code(n_bits: int) -> em.FactorGraph:
    """Three random divisions of the bits into checks of six."""
    generator = torch.Generator().manual_seed(0)
    checks = [torch.randperm(n_bits, generator=generator).view(-1, 6) for _ in range(3)]
    graph = em.FactorGraph(n_bits, 2)
    graph.add(em.factors.parity(), torch.cat(checks))
    return graph


GRAPHS = {
    "grid 10x10, 2 values": lambda: board(10, 2),
    "grid 50x50, 2 values": lambda: board(50, 2),
    "grid 8x8, 8 values": lambda: board(8, 8),
    "code of 504 bits": lambda: code(504),
}


@pytest.mark.parametrize("batch", [1, 32, 256])
@pytest.mark.parametrize("name", GRAPHS)
def test_factor_graph(benchmark, name: str, batch: int) -> None:
    graph = GRAPHS[name]()
    logits, label = draw(graph, batch)
    benchmark(em.posterior, graph, logits, label, em.BeliefPropagation(iterations=SWEEPS))
    tables = graph.tables(torch.device("cpu")).graph
    entries = batch * SWEEPS * len(tables.variable) * graph.cardinality
    benchmark.extra_info["ns per edge, state, sweep and row"] = benchmark.stats["median"] / entries * 1e9
