"""Label 0 where the net is certain of a valid assignment: right for every gap, as 1 - p(valid) is not."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from tests.backends import Backend

GAPS = (5.0, 28.0, 36.0, 40.0, 80.0, 500.0, 1e4)
NOT_VALID = torch.tensor([0])
BOARD = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])


def of_all(problem: em.AllDifferent, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Marginals and log evidence of label 0 by all assignments, in float64 logarithms."""
    z = torch.tensor(list(itertools.product(range(problem.cardinality), repeat=problem.n_variables)))
    log_prior = torch.log_softmax(logits.double(), -1)[0]
    log_p = torch.stack([log_prior[i, z[:, i]] for i in range(problem.n_variables)]).sum(0)
    log_p = log_p.masked_fill(problem.label(z) == 1, -torch.inf)
    one_hot = torch.nn.functional.one_hot(z, problem.cardinality).double()
    return torch.einsum("m,miv->iv", torch.softmax(log_p, 0), one_hot)[None], torch.logsumexp(log_p, 0)[None]


PROBLEMS = {
    "a pair": em.AllDifferent([(0, 1)], 2, 2),
    "slack": em.AllDifferent([(0, 1), (1, 2)], 3, 4),
    "a permutation": em.AllDifferent([(0, 1, 2)], 3, 3),
}


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_inference(backend: Backend, name: str, gap: float, dtype: torch.dtype) -> None:
    problem = PROBLEMS[name]
    generator = torch.Generator().manual_seed(int(gap))
    logits = torch.randn(1, problem.n_variables, problem.cardinality, generator=generator).to(dtype)
    logits[0, range(problem.n_variables), range(problem.n_variables)] += gap
    post = backend.run(em.posterior, problem, logits, NOT_VALID)
    marginals, log_evidence = of_all(problem, logits)
    assert post.possible.all()
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(post.marginals.double(), marginals, rtol=0.0, atol=2e-6)


def test_exact_inference_on_boards(backend: Backend) -> None:
    """Every change of one of 16 cells to one of 3 other values breaks the board; two changes weigh nothing."""
    gaps = torch.tensor([gap for gap in GAPS if gap >= 28.0])
    logits = gaps[:, None, None, None] * torch.nn.functional.one_hot(BOARD, 4)
    post = backend.run(em.posterior, em.Sudoku(4), logits, NOT_VALID.expand(len(gaps)))
    assert post.possible.all()
    torch.testing.assert_close(post.log_evidence.double(), math.log(48) - gaps.double(), rtol=1e-6, atol=1e-6)
    right = post.marginals.double().gather(-1, BOARD.expand(len(gaps), 4, 4)[..., None])
    torch.testing.assert_close(right, torch.full_like(right, 15 / 16), rtol=0.0, atol=2e-6)


@pytest.mark.parametrize("gap", GAPS)
def test_the_loss_moves_the_rows_where_the_net_is_most_wrong(gap: float) -> None:
    logits = (gap * torch.eye(2))[None].requires_grad_()
    loss = em.fused_em_loss(PROBLEMS["a pair"], logits, NOT_VALID)
    loss.backward()
    p = 1.0 / (1.0 + math.exp(-gap))  # p(not valid) = 2 p (1 - p), and p(z_0 = 0) becomes one half
    assert loss.item() == pytest.approx(gap - math.log(2.0) - 2.0 * math.log(p), rel=1e-6, abs=1e-6)
    assert logits.grad.abs().min().item() == pytest.approx(p - 0.5, abs=1e-6)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("factors", ["all_different", "pairwise"])
@pytest.mark.parametrize("size", [4, 9])
def test_loopy_evidence(gap: float, factors: str, size: int) -> None:
    """Every change of one cell breaks a full board: size^2 cells by size - 1 values."""
    board = BOARD if size == 4 else torch.tensor([[(3 * r + r // 3 + c) % 9 for c in range(9)] for r in range(9)])
    logits = gap * torch.nn.functional.one_hot(board, size).float()[None]
    problem, engine = em.Sudoku(size), em.BeliefPropagation(iterations=5, factors=factors)
    assert int(problem.label(board)) == 1
    post = em.posterior(problem, logits, NOT_VALID, engine)
    n = size**2
    log_right = -math.log1p((size - 1) * math.exp(-gap))
    expected = math.log(-math.expm1(n * log_right)) if gap < 30 else math.log(n * (size - 1)) - gap
    assert post.possible.all()
    tolerance = 0.05 if gap < 10 else 1e-5  # messages are not exact, but what is certain is
    assert post.log_evidence.item() == pytest.approx(expected, rel=1e-6, abs=tolerance)
    assert post.marginals[0, 0, 0, board[0, 0]].item() == pytest.approx(1.0 - 1.0 / n, abs=tolerance + 1e-4)


@pytest.mark.parametrize("gap", [5.0, 80.0, 1e4])
def test_samples(gap: float) -> None:
    problem = PROBLEMS["a pair"]
    z = em.sample_posterior(problem, (gap * torch.eye(2))[None], NOT_VALID, 400, seed=0)
    assert (problem.label(z) == 0).all()
    assert z[..., 0].double().mean().item() == pytest.approx(0.5, abs=0.1)


def test_what_cannot_be_invalid_is_impossible() -> None:
    logits = torch.full((1, 2, 2), -torch.inf)
    logits[0, 0, 0] = logits[0, 1, 1] = 0.0
    for engine in (em.Exact(), em.BeliefPropagation(iterations=3)):
        post = em.posterior(PROBLEMS["a pair"], logits, NOT_VALID, engine)
        assert not post.possible.any()
        assert post.log_evidence.item() == -math.inf
        assert torch.equal(post.marginals, torch.eye(2)[None])
