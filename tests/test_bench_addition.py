"""pytest --benchmark-only: time and memory of the addition E-step against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.addition import BATCHES, DIGITS, METHODS, SUITE
from tests.benchmarking import DEVICES, measure


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("n_digits", DIGITS)
@pytest.mark.parametrize("device", DEVICES)
def test_addition(benchmark, device: str, n_digits: int, batch: int, method: str) -> None:
    measure(benchmark, SUITE, device, n_digits, batch, method, large=n_digits * batch > 10**5)
