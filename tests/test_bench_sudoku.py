"""pytest --benchmark-only: time and memory of the Sudoku E-step against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.sudoku import METHODS, SIZES, SUITE
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_sudoku(benchmark, later_passes, device: str, size: int, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, size, batch, method)
