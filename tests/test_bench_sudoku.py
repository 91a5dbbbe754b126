"""pytest --benchmark-only: time and memory of the Sudoku E-step against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.sudoku import BATCHES, METHODS, SIZES, SUITE
from tests.benchmarking import DEVICES, measure


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("device", DEVICES)
def test_sudoku(benchmark, device: str, size: int, batch: int, method: str) -> None:
    measure(benchmark, SUITE, device, size, batch, method, large=size == 9)
