"""pytest --benchmark-only: time and memory of belief propagation on factor graphs against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.factor_graph import BATCHES, GRAPHS, METHODS, SUITE
from tests.benchmarking import measure


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", GRAPHS)
def test_factor_graph(benchmark, name: str, batch: int, method: str) -> None:
    measure(benchmark, SUITE, "cpu", name, batch, method, large=method not in ("softmax", "copy"))
