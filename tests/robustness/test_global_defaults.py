"""Torch's global defaults, of device and of dtype, change no bit of a posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em

Case = tuple[Callable[[], em.Problem], list[em.Engine | None]]

LABELLED = {
    "addition": (lambda: em.Addition(2), [None, em.ABC(samples=64), em.Gibbs(sweeps=4), em.Rejection(64), em.MAP()]),
    "sudoku 4": (lambda: em.Sudoku(4), [None, em.ABC(samples=64), em.Gibbs(sweeps=4), em.Rejection(64), em.MAP()]),
    "sudoku 9": (lambda: em.Sudoku(9), [em.BeliefPropagation(iterations=2), em.Gibbs(sweeps=2), em.MAP()]),
    "paths": (lambda: em.ShortestPath(4, 4), [em.ABC(samples=64), em.Gibbs(sweeps=4)]),
    "automaton": (lambda: em.rules.lexicon(["ab", "abc"], "abc"), [None, em.Gibbs(sweeps=4), em.MAP()]),
    "black box": (
        lambda: em.BlackBox(label=lambda z: z.sum(-1) % 3, latent_shape=(4,), cardinality=3),
        [None, em.ABC(samples=64), em.Gibbs(sweeps=8), em.Rejection(64), em.MAP()],
    ),
}


def outcomes(make: Callable[[], em.Problem], engines: list[em.Engine | None]) -> list[Tensor]:
    """Posteriors by all engines, the loss and samples, where there are any."""
    problem, cpu = make(), torch.device("cpu")
    generator = torch.Generator(cpu).manual_seed(0)
    shape = (3, *problem.latent_shape, problem.cardinality)
    logits = torch.randn(shape, generator=generator, dtype=torch.float32, device=cpu)
    z = torch.randint(0, problem.cardinality, (3, *problem.latent_shape), generator=generator, device=cpu)
    label = problem.label(z).clamp_min(0)
    found: list[Tensor] = []
    for engine in engines:
        post = em.posterior(problem, logits, label, engine)
        found += [post.marginals, post.log_evidence]
    if problem.tractable and not isinstance(problem, em.ShortestPath):
        leaf = logits.clone().requires_grad_()
        em.fused_em_loss(problem, leaf, label).backward()
        found += [leaf.grad, em.sample_posterior(problem, logits, label, 2, seed=1)]
    return found


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.filterwarnings("ignore::emnesy_gpu.InferenceWarning")
def test_the_default_device(name: str) -> None:
    expected = outcomes(*LABELLED[name])
    with torch.device("meta"):
        found = outcomes(*LABELLED[name])
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.filterwarnings("ignore::emnesy_gpu.InferenceWarning")
def test_the_default_dtype(name: str, dtype: torch.dtype) -> None:
    expected = outcomes(*LABELLED[name])
    before: Any = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = outcomes(*LABELLED[name])
    finally:
        torch.set_default_dtype(before)
    assert all(map(torch.equal, found, expected))
