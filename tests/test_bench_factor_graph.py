"""pytest --benchmark-only: time and memory of belief propagation on factor graphs against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.factor_graph import GRAPHS, METHODS, SUITE
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_factor_graph(benchmark, later_passes, device: str, name: str, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, name, batch, method)
