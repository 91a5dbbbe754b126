"""Subnormal numbers are zeros in some kernels, and as before everywhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.kernels.cpu.common.subnormals import are_flushed, flushed


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such mode")
    yield
    torch.set_flush_denormal(False)


def test_they_are_zeros_inside_alone() -> None:
    with flushed():
        assert are_flushed()
    assert not are_flushed()


def test_a_choice_of_the_user_stays() -> None:
    torch.set_flush_denormal(True)
    with flushed():
        assert are_flushed()
    assert are_flushed()


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_beliefs_whose_sums_of_subsets_are_tiny_are_those_of_float64(scale: float) -> None:
    problem, engine = em.Sudoku(9), em.BeliefPropagation(iterations=5, damping=0.0, tolerance=0.0)
    logits = scale * torch.randn(2, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    label = torch.ones(2, dtype=torch.int64)
    post = em.posterior(problem, logits, label, engine)
    assert not are_flushed()
    with em.backend("reference"):
        expected = em.posterior(problem, logits.double(), label, engine)
    torch.testing.assert_close(post.marginals.double(), expected.marginals, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(post.log_evidence.double(), expected.log_evidence, rtol=1e-4, atol=1e-3)
