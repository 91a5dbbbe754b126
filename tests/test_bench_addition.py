"""pytest --benchmark-only: time and memory of the addition E-step against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.addition import DIGITS, METHODS, SUITE
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_digits", DIGITS)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_addition(benchmark, later_passes, device: str, n_digits: int, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, n_digits, batch, method)
