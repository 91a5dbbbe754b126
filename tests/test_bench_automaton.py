"""pytest --benchmark-only: time and memory of the E-step of automata against its baselines."""

from __future__ import annotations

import pytest

from emnesy_gpu.benchmarks.automaton import METHODS, STATES, SUITE
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_automaton(benchmark, later_passes, device: str, states: int, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, states, batch, method)
