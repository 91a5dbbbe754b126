"""Explanations of one posterior, against the enumeration of all assignments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu import logic


def tree() -> em.FactorGraph:
    graph = em.FactorGraph(n_variables=4, cardinality=3)
    graph.add(em.factors.not_equal(), [(0, 1), (1, 2), (1, 3)])
    return graph


PROBLEMS = {
    "addition": lambda: em.Addition(n_digits=1, base=5),
    "automaton": lambda: em.rules.modulo(3, 4, base=3),
    "circuit": lambda: em.Circuit(logic.exactly(2, logic.symbols(5))),
    "black box": lambda: em.BlackBox(label=lambda z: z.sum(-1) % 3, latent_shape=(4,), cardinality=3),
    "tree": tree,
    "all different": lambda: em.AllDifferent([[0, 1, 2]], 3, 4),
}


def all_with_label(problem: em.Problem, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """All assignments with a label and p(z | y, x), the most probable first."""
    n = int(np.prod(problem.latent_shape))
    z = torch.tensor(list(itertools.product(range(problem.cardinality), repeat=n))).view(-1, *problem.latent_shape)
    z = z[(problem.label(z) == label).view(len(z), -1).all(1)]
    log_prior = torch.log_softmax(logits.double(), -1).expand(len(z), *logits.shape)
    joint = log_prior.gather(-1, z[..., None])[..., 0].flatten(1).sum(1)
    z, joint = z[joint > -torch.inf], joint[joint > -torch.inf]
    order = joint.argsort(descending=True)
    return z[order], torch.softmax(joint[order], 0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_best_assignments_are_those_of_an_enumeration(name: str) -> None:
    problem, generator = PROBLEMS[name](), torch.Generator().manual_seed(3)
    logits = 2.0 * torch.randn(3, *problem.latent_shape, problem.cardinality, generator=generator)
    logits[1].view(-1)[0] = -torch.inf
    z = torch.softmax(logits, -1).argmax(-1)
    z[..., -1] = (z[..., -1] + 1) % problem.cardinality
    label = problem.label(z) if name not in ("tree", "all different", "circuit") else torch.ones(3, dtype=torch.int64)
    for row in range(3):
        told = em.explain(problem, logits, label, row=row, k=7)
        expected, probabilities = all_with_label(problem, logits[row], label[row])
        assert torch.allclose(told.probabilities, probabilities[:7], atol=1e-9)
        assert torch.equal(told.assignments, expected[: len(told.assignments)])
        one_hot = torch.nn.functional.one_hot(expected, problem.cardinality).double()
        assert torch.allclose(told.posterior.double(), torch.tensordot(probabilities, one_hot, 1), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(0, 40))
def test_probabilities_fall_and_all_of_them_sum_to_one(seed: int, k: int) -> None:
    problem, generator = em.Addition(n_digits=1, base=5), torch.Generator().manual_seed(seed)
    label = problem.label(torch.randint(0, 5, (1, 2, 1), generator=generator))
    told = em.explain(problem, torch.randn(1, 2, 1, 5, generator=generator), label, k=k)
    assert len(told.assignments) == len(told.assignments.unique(dim=0)) <= k
    assert (told.probabilities.diff() <= 0).all()
    whole = em.explain(problem, torch.randn(1, 2, 1, 5, generator=generator), label, k=100)
    assert float(whole.probabilities.sum()) == pytest.approx(1.0, abs=1e-9)


def test_noisy_automata_weigh_assignments() -> None:
    weights = np.array([[[0.5, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    noisy = em.Automaton.from_tables(weights, 2, start=[0.25, 1.0], labels=[{0: 0.9, 1: 0.1}, 1])
    told = em.explain(noisy, torch.randn(1, 2, 2), torch.tensor([1]), k=10)
    assert float(told.probabilities.sum()) <= 1.0 + 1e-9


def test_what_cannot_be_listed_says_so() -> None:
    board = em.explain(em.Sudoku(9), torch.randn(2, 9, 9, 9), torch.ones(2, dtype=torch.int64), row=-1)
    assert len(board.assignments) == 0
    assert "approximate; no assignments" in board.note
    assert "and 41 more symbols" in str(board)
    impossible = em.explain(em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10), torch.tensor([[1, 9]]))
    assert "impossible" in impossible.note
    assert torch.equal(impossible.prior, impossible.posterior)
    with pytest.raises(ValueError, match=r"row must be an integer in -1\.\.0, got 1"):
        em.explain(em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10), torch.tensor([[1, 9]]), row=1)


def test_tables_and_pictures_have_symbols_labels_and_assignments() -> None:
    pytest.importorskip("matplotlib")
    told = em.explain(em.Addition(n_digits=2), torch.zeros(1, 2, 2, 10), torch.tensor([[0, 0, 1]]), k=3)
    assert "0.5000  0 0 | 0 1" in str(told)
    figure = told.plot()
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[2].get_yticklabels()] == ["0 0 | 0 1", "0 1 | 0 0"]
    assert "label 0 0 1: p = 0.0002" in figure.get_suptitle()


def test_small_probabilities_are_not_shown_as_nought() -> None:
    logits = 12.0 * torch.nn.functional.one_hot(torch.tensor([[[1], [2]]]), 10)
    told = str(em.explain(em.Addition(1), logits, torch.tensor([[0, 3]]), k=2))
    assert [line.split()[0] for line in told.splitlines()[-2:]] == ["1.0000", "4e-11"]
