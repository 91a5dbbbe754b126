"""pytest --benchmark-only: time and memory of exact inference over all assignments of a black box."""

from __future__ import annotations

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks.joint_table import METHODS, SIZES, SUITE, inputs, torch_table
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_symbols", SIZES)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_joint_table(benchmark, later_passes, device: str, n_symbols: int, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, n_symbols, batch, method)


def test_the_baseline_equals_the_reference() -> None:
    problem, logits, label = inputs(3, 4, torch.device("cpu"))
    with em.backend("reference"):
        expected = em.posterior(problem, logits.double(), label).marginals
    torch.testing.assert_close(torch_table(logits.double(), label), expected, atol=1e-12, rtol=0)
