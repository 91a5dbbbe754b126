"""The engines in plain torch that the fused ones are compared with compute what these compute."""

from __future__ import annotations

import mmap

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.memory import PeakMemory
from emnesy_gpu.tasks.core.plain_torch_engines import PLAIN_TORCH

MIB = 2**20


def addition(n_digits: int) -> tuple[em.Problem, torch.Tensor, torch.Tensor, em.Engine]:
    problem, generator = em.Addition(n_digits), torch.Generator().manual_seed(n_digits)
    z = torch.randint(0, 10, (6, 2, n_digits), generator=generator)
    logits = torch.randn(*z.shape, 10, generator=generator)
    return problem, logits, problem.label(z), em.Exact()


@pytest.mark.parametrize("name", PLAIN_TORCH)
@pytest.mark.parametrize("n_digits", [1, 4, 15])
def test_exact_messages_give_the_exact_posterior(name, n_digits):
    """Both ways: messages themselves, and, by Theorem 3.1, the gradient through them. float32 over 15 digits."""
    problem, logits, label, engine = addition(n_digits)
    expected = em.posterior(problem, logits, label, engine)
    found = em.posterior(problem, logits, label, PLAIN_TORCH[name](engine))
    torch.testing.assert_close(found.marginals, expected.marginals, rtol=0, atol=5e-6)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=1e-5, atol=1e-5)
    assert not found.marginals.requires_grad


def test_loopy_messages_are_those_of_the_fused_engine():
    problem, engine, label = em.Sudoku(4), em.BeliefPropagation(3), torch.ones(5, dtype=torch.long)
    logits = torch.randn(5, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = em.posterior(problem, logits, label, engine)
    found = em.posterior(problem, logits, label, PLAIN_TORCH["torch"](engine))
    torch.testing.assert_close(found.marginals, expected.marginals, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=1e-4, atol=1e-4)


def test_the_m_step_against_bp_std_has_the_gradient_of_autograd_through_loopy_messages():
    problem, engine, label = em.Sudoku(4), em.BeliefPropagation(2), torch.ones(3, dtype=torch.long)
    logits = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (expected,) = torch.autograd.grad(em.bp_std_loss(problem, logits, label, iterations=2), logits)
    post = em.posterior(problem, logits, label, PLAIN_TORCH["bp-std"](engine))
    (found,) = torch.autograd.grad(em.em_loss(logits, post), logits)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_plain_messages_refuse_invalid_boards():
    label = torch.tensor([1, 0])
    with pytest.raises(ValueError, match="valid boards only, got a label 0"):
        em.posterior(em.Sudoku(4), torch.zeros(2, 4, 4, 4), label, PLAIN_TORCH["torch"](em.BeliefPropagation(2)))


def test_peak_memory_counts_what_is_held_for_a_while():
    memory = PeakMemory(torch.device("cpu"))
    # Pages from the system: malloc may hand out memory that the process already holds.
    with mmap.mmap(-1, 32 * MIB) as block:
        for page in range(0, 32 * MIB, mmap.PAGESIZE):
            block[page] = 1
    peak = memory.bytes()
    if peak is None:
        pytest.skip("this system does not tell resident sizes")
    assert 30 * MIB < peak < 48 * MIB
