"""Subnormal numbers are zeros in some kernels, and as before everywhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.kernels.cpu.common.subnormals import are_flushed, flushed

PROBLEMS = {
    "one digit": em.Addition(n_digits=1),
    "four digits": em.Addition(n_digits=4),
    "three addends": em.Addition(n_digits=3, n_addends=3),
    "four addends of bits": em.Addition(n_digits=4, base=2, n_addends=4),
    "two states": em.rules.parity(6),
    "two states, many values": em.rules.parity(3, cardinality=20),
    "four states, few edges": em.rules.at_most(9, 3, values=[1], k=2),
    "seven states, complete": em.Automaton(lambda s, v: (s + v) % 7, 0, lambda s: s, n_symbols=5, cardinality=7),
    "many states, few edges": em.rules.sorted_order(4, cardinality=6),
}
"""Those whose kernels count subnormal numbers as zeros, and bound what they lose."""

RANGES = {torch.float32: (30.0, 70.0), torch.float64: (340.0, 380.0)}
"""Odds of symbols, in nats, whose products of two become subnormal."""


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such mode")
    yield
    torch.set_flush_denormal(False)


def contradicted(problem: em.Problem, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits that are sure of some symbols, row by row more so, and the labels of others."""
    generator = torch.Generator().manual_seed(0)
    shape = rows, *problem.latent_shape
    believed, true = (torch.randint(0, problem.cardinality, shape, generator=generator) for _ in range(2))
    gaps = torch.linspace(*RANGES[dtype], rows, dtype=dtype).view(-1, *[1] * (len(shape)))
    logits = torch.randn(*shape, problem.cardinality, generator=generator).to(dtype)
    others = 1 - torch.nn.functional.one_hot(believed, problem.cardinality)
    return logits - gaps * others, problem.label(true)


def test_they_are_zeros_inside_alone() -> None:
    with flushed():
        assert are_flushed()
    assert not are_flushed()


def test_a_choice_of_the_user_stays() -> None:
    torch.set_flush_denormal(True)
    with flushed():
        assert are_flushed()
    assert are_flushed()


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("chosen", [False, True])
def test_kernels_leave_the_choice_of_the_user(chosen: bool, rows: int) -> None:
    for problem in PROBLEMS.values():
        logits, label = contradicted(problem, rows, torch.float32)
        torch.set_flush_denormal(chosen)
        em.posterior(problem, logits, label)
        assert are_flushed() == chosen
        if rows == 1:  # a row that the kernel of few rows leaves half done
            em.posterior(problem, 1e13 * logits, label)
            assert are_flushed() == chosen


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_lost_is_not_missed(name: str, dtype: torch.dtype) -> None:
    problem = PROBLEMS[name]
    logits, label = contradicted(problem, 401, dtype)
    post = em.posterior(problem, logits, label)
    with em.backend("reference"):
        expected = em.posterior(problem, logits.double(), label)
    rtol, atol = (1e-5, 2e-5) if dtype is torch.float32 else (1e-9, 1e-9)
    torch.testing.assert_close(post.possible, expected.possible)
    torch.testing.assert_close(post.marginals.double(), expected.marginals, rtol=0.0, atol=atol)
    torch.testing.assert_close(post.log_evidence.double(), expected.log_evidence, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", PROBLEMS)
def test_rows_have_the_same_bits_alone(name: str) -> None:
    problem = PROBLEMS[name]
    logits, label = contradicted(problem, 48, torch.float32)
    whole = em.posterior(problem, logits, label)
    for row in range(0, 48, 3):
        alone = em.posterior(problem, logits[row : row + 1], label[row : row + 1])
        assert torch.equal(alone.marginals[0], whole.marginals[row])
        assert torch.equal(alone.log_evidence[0], whole.log_evidence[row])


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
