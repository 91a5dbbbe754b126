"""pytest --benchmark-only: time and memory of the E-step of circuits against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.circuit import METHODS, SIZES, SUITE
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_circuit(benchmark, later_passes, device: str, name: str, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, name, batch, method)
