"""pytest --benchmark-only: time and memory of samples of maps against torch and SciPy."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.shortest_path import METHODS, SIZES, SUITE
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_shortest_path(benchmark, later_passes, device: str, size: int, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, size, batch, method)
