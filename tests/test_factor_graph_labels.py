"""Factors whose label is data: every row has sums, or tables, of its own."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.kernels.factor_graph_tables import LabelDigits
from emnesy_gpu.reference.label_digits import with_digits
from profiling.gpu_simulator import simulated_triton
from tests.factor_graphs import assignments, draw, enumerate_posterior

TOTAL = em.Automaton(lambda s, v: s + v, 0, lambda s: s, n_symbols=3, cardinality=4)
TABLES = torch.tensor([[[1.0, 2.0], [3.0, 1.0]], [[5.0, 1.0], [0.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]])


def sums(*scopes: tuple[int, ...]) -> em.FactorGraph:
    graph = em.FactorGraph(6, 4, latent_shape=(2, 3))
    graph.add(em.factors.observed(TOTAL), list(scopes))
    graph.add(em.factors.not_equal(), (2, 3))
    return graph


def given(graph: em.FactorGraph, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior of each row by enumeration; the sums that are given select the assignments."""
    z = assignments(graph)
    found = graph.label(z.view(-1, *graph.latent_shape))
    unequal = z[:, 2] != z[:, 3]
    rows = []
    for row, wanted in zip(logits.flatten(1, -2), label, strict=True):
        right = ((found == wanted) | (wanted == -1)).all(-1) & unequal
        rows.append(enumerate_posterior(graph, row[None], right.double()))
    return torch.cat([row[0] for row in rows]).view(logits.shape), torch.cat([row[1] for row in rows])


def test_every_row_has_sums_of_its_own() -> None:
    graph = sums((0, 1, 2), (3, 4, 5))
    logits, _ = draw(graph, 6, dtype=torch.float64)
    label = torch.tensor([[3, 4], [9, 0], [0, 5], [-1, 6], [-1, -1], [7, 7]])
    assert graph.label_shape == (2,)
    assert graph.is_tree
    marginals, log_evidence = given(graph, logits, label)
    for backend in ("cpu", "reference"):
        with em.backend(backend):
            post = em.posterior(graph, logits, label)
        torch.testing.assert_close(post.marginals, marginals, atol=1e-12, rtol=0)
        torch.testing.assert_close(post.log_evidence, log_evidence, atol=1e-11, rtol=0)


def test_the_most_probable_assignment_has_the_sums() -> None:
    graph = sums((0, 1, 2), (3, 4, 5))
    logits, _ = draw(graph, 5)
    label = torch.tensor([[3, 4], [9, 0], [0, 5], [5, -1], [7, 7]])
    best = em.posterior(graph, logits, label, em.MAP())
    found = graph.label(best.info["assignment"])
    assert bool(best.info["valid"].all())
    assert bool(((found == label) | (label == -1)).all())


def test_samplers_count_the_sums_that_are_right() -> None:
    graph = sums((0, 1, 2), (3, 4, 5))
    logits, _ = draw(graph, 3, 0.5)
    label = torch.tensor([[3, 4], [-1, 5], [6, -1]])
    marginals, _ = given(graph, logits.double(), label)
    by_samples = em.posterior(graph, logits, label, em.Rejection(samples=20000))
    torch.testing.assert_close(by_samples.marginals.double(), marginals, atol=0.1, rtol=0)


def test_loops_of_sums_run_and_impossible_sums_are_found() -> None:
    graph = sums((0, 1, 2), (2, 4, 5), (0, 4, 5))
    logits, _ = draw(graph, 4)
    post = em.posterior(graph, logits, torch.tensor([[3, 4, 5], [9, 0, 9], [0, 5, 5], [-1, 6, 6]]))
    assert post.possible.tolist() == [True, False, True, True]


@pytest.mark.parametrize("entry", [10, -2])
def test_sums_that_no_symbols_have_are_named(entry: int) -> None:
    graph = sums((0, 1, 2), (3, 4, 5))
    logits, _ = draw(graph, 2)
    label = torch.tensor([[3, 4], [1, entry]])
    with pytest.raises(ValueError, match=rf"label\[1, 1\] must be in 0..9, or -1 \(not given\), got {entry}"):
        em.posterior(graph, logits, label)
    assert em.posterior(graph, logits, label, check=False).possible.tolist() == [True, False]


def test_the_label_of_a_row_picks_its_table() -> None:
    graph = em.FactorGraph(2, 2)
    graph.add(em.factors.observed_table(TABLES), (0, 1))
    logits, _ = draw(graph, 4)
    label = torch.tensor([[0], [1], [2], [-1]])
    weights = [*TABLES, TABLES.sum(0)]
    post = em.posterior(graph, logits, label)
    for row, table in enumerate(weights):
        marginals, log_evidence = enumerate_posterior(graph, logits[row : row + 1], table.flatten().double())
        torch.testing.assert_close(post.marginals[row : row + 1].double(), marginals, atol=1e-6, rtol=0)
        torch.testing.assert_close(post.log_evidence[row : row + 1].double(), log_evidence, atol=1e-5, rtol=0)
    z = torch.tensor([[0, 1], [1, 0]])
    assert graph.log_weight(z, torch.tensor([[0], [1]])).exp().tolist() == pytest.approx([2.0, 0.0])
    with pytest.raises(em.UnsupportedEngineError, match="weights"):
        em.posterior(graph, logits, label, em.Rejection())


def noisy_count() -> em.factors.Factor:
    """A count of ones that is read wrongly now and then: an assignment has several labels."""
    return em.factors.observed(
        em.Automaton(lambda s, v: s + v, 0, lambda s: {s: 0.6, (s + 1) % 3: 0.4}, n_symbols=2, cardinality=2)
    )


@pytest.mark.parametrize("factor", [em.factors.observed_table(TABLES), noisy_count()], ids=["tables", "noisy count"])
def test_the_most_probable_symbols_are_weighed_over_all_labels_that_are_not_given(factor: em.factors.Factor) -> None:
    graph = em.FactorGraph(3, 2)
    graph.add(factor, [(0, 1), (1, 2)])
    logits, _ = draw(graph, 40, dtype=torch.float64)
    label = torch.randint(-1, 3, (40, 2), generator=torch.Generator().manual_seed(2))
    z = assignments(graph)
    each = {value: graph.log_weight(z, torch.tensor(value)).exp() for value in itertools.product(range(3), repeat=2)}
    found = em.posterior(graph, logits, label, em.MAP())
    for row in range(40):
        entries = [range(3) if entry < 0 else [entry] for entry in label[row].tolist()]
        weights = sum(each[value] for value in itertools.product(*entries))
        joint = torch.log_softmax(logits[row], -1)[torch.arange(3), z].sum(-1) + torch.as_tensor(weights).log()
        assert found.log_evidence[row] == pytest.approx(joint.max().item(), abs=1e-12)
        assert found.info["assignment"][row].tolist() == z[joint.argmax()].tolist()


def test_labels_that_weights_cannot_be_of_are_named() -> None:
    graph = em.FactorGraph(2, 2)
    graph.add(em.factors.observed_table(TABLES), (0, 1))
    z, logits = torch.tensor([[0, 1]]), torch.zeros(1, 2, 2)
    for code in (3, 4, -2):
        for call in (lambda code: em.posterior(graph, logits, code), lambda code: graph.log_weight(z, code)):
            with pytest.raises(ValueError, match=rf"label\[0, 0\] must be in 0..2, or -1 \(not given\), got {code}"):
                call(torch.tensor([[code]]))
        assert not em.posterior(graph, logits, torch.tensor([[code]]), check=False).possible.any()
    with pytest.raises(ValueError, match="label must have all entries given"):
        graph.log_weight(z, torch.tensor([[-1]]))


def test_a_switch_is_a_coupling_of_any_strength_for_each_row() -> None:
    graph = em.FactorGraph(3, 2)
    graph.add(em.factors.table([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]]]), (0, 1, 2))
    logits, label = draw(graph, 3, dtype=torch.float64)
    weight = torch.tensor([1.5, 4.0, 20.0], dtype=torch.float64)
    logits[:, 2] = torch.stack([torch.zeros(3), (weight - 1).log()], -1)
    post = em.posterior(graph, logits, label)
    prior = torch.softmax(logits, -1)
    joint = prior[:, 0, :, None] * prior[:, 1, None, :] * (1 + (weight - 1)[:, None, None] * torch.eye(2))
    expected = joint.sum(2) / joint.sum((1, 2))[:, None]
    torch.testing.assert_close(post.marginals[:, 0], expected, atol=1e-12, rtol=0)


def test_a_graph_with_labels_comes_back_from_a_checkpoint_of_weights_alone(tmp_path: Path) -> None:
    graph = sums((0, 1, 2), (3, 4, 5))
    logits, _ = draw(graph, 2)
    label = torch.tensor([[3, 4], [5, -1]])
    expected = em.posterior(graph, logits, label).marginals
    torch.save(graph, tmp_path / "graph.pt")
    again = torch.load(tmp_path / "graph.pt", weights_only=True)
    assert torch.equal(em.posterior(again, logits, label).marginals, expected)
    assert torch.equal(again.label(logits.argmax(-1)), graph.label(logits.argmax(-1)))


def test_labels_that_do_not_exist_are_no_prior_on_gpus() -> None:
    launches = pytest.importorskip("emnesy_gpu.kernels.gpu.label_digits", reason="needs triton")
    digits = LabelDigits(torch.tensor([0, 0, 1]), torch.tensor([9, 9, 3]), torch.tensor([3, 1, 1]), 3)
    label = torch.tensor([[8, 3], [9, 2], [-2, -1], [-1, 0]])
    with simulated_triton(80):
        found = launches.with_digits(torch.zeros(4, 2, 3), label, digits)
    for mine, theirs in zip(found, with_digits(torch.zeros(4, 2, 3), label, digits), strict=True):
        torch.testing.assert_close(mine, theirs, equal_nan=True)
    unknown = [[False, False, True], [True, True, False], [True, True, False], [False, False, False]]
    assert found[0].isnan().any(-1)[:, 2:].tolist() == unknown
