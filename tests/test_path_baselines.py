"""I-MLE and blackbox backpropagation: what their gradients are, and that they learn."""

from __future__ import annotations

import pytest
import torch

import emnesy_gpu as em
from tests.maps import random_maps


def test_blackbox_gradients_are_differences_of_paths() -> None:
    problem = em.ShortestPath(5)
    z = random_maps(problem, 4, seed=32)
    label = problem.label(z, (0, 0), (4, 3))
    costs = (torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(33)) + 0.1).requires_grad_()
    loss = em.blackbox_loss(problem, costs, label, "none", interpolation=0.5)
    (gradient,) = torch.autograd.grad(loss.sum(), costs)
    mask = (label & 1).float()
    before = problem.cheapest_path(costs, goal=(4, 3)).float()
    after = problem.cheapest_path(costs + 0.5 * (1 - 2 * mask), goal=(4, 3)).float()
    assert torch.equal(loss, (before - mask).abs().flatten(1).sum(1))
    torch.testing.assert_close(gradient, (after - before) / 0.5)


@pytest.mark.parametrize("loss", [em.blackbox_loss, em.imle_loss])
def test_costs_learn_from_paths(loss) -> None:
    """Gradient descent on the costs themselves finds ones that have the label's path."""
    problem, generator = em.ShortestPath(6), torch.Generator().manual_seed(34)
    label = problem.label(random_maps(problem, 8, seed=35))
    raw = torch.zeros(8, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.1)
    options = {"samples": 4, "temperature": 0.1, "generator": generator} if loss is em.imle_loss else {}
    for _ in range(60):
        optimizer.zero_grad()
        loss(problem, torch.nn.functional.softplus(raw), label, "sum", **options).backward()
        optimizer.step()
    found = problem.cheapest_path(torch.nn.functional.softplus(raw.detach()))
    assert (found == label).flatten(1).all(1).float().mean() > 0.8


def test_noise_of_a_seed_is_reproducible() -> None:
    problem = em.ShortestPath(4)
    label, costs = problem.label(random_maps(problem, 3, seed=36)), torch.rand(3, 4, 4)
    first, second = (
        em.imle_loss(problem, costs, label, samples=5, generator=torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(first, second)
    with pytest.raises(TypeError, match=r"problem must be an em\.ShortestPath"):
        em.imle_loss(em.Sudoku(4), costs, label)
