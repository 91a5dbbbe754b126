"""pytest --benchmark-only: time and memory of the E-step of circuits against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.circuit import BATCHES, METHODS, SIZES, SUITE
from tests.benchmarking import DEVICES, measure


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("device", DEVICES)
def test_circuit(benchmark, device: str, name: str, batch: int, method: str) -> None:
    measure(benchmark, SUITE, device, name, batch, method, large=method not in ("softmax", "copy"))
