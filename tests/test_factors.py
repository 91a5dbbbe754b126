"""Building factor graphs: what ``em.factors`` mean, which scopes they take, and the tables that graphs make of them."""

from __future__ import annotations

import itertools

import pytest
import torch

import emnesy_gpu as em
from tests.factor_graphs import assignments, board, draw, enumerate_posterior, loops, tree

ROUNDING = {"atol": 3e-6, "rtol": 3e-6}
"""float32 rounds each of about 30 operations by 6e-8."""


MEANINGS = {
    "exactly": (em.factors.exactly(2), lambda z: (z == 1).sum(-1) == 2),
    "at_least": (em.factors.at_least(2, [0, 2]), lambda z: (z != 1).sum(-1) >= 2),
    "at_most": (em.factors.at_most(1), lambda z: (z == 1).sum(-1) <= 1),
    "parity": (em.factors.parity(1), lambda z: z.sum(-1) % 2 == 1),
    "linear": (em.factors.linear([2, -1, 1], 1, ">="), lambda z: (z * torch.tensor([2, -1, 1])).sum(-1) >= 1),
    "all_different": (
        em.factors.all_different(),
        lambda z: (z[:, 0] != z[:, 1]) & (z[:, 1] != z[:, 2]) & (z[:, 0] != z[:, 2]),
    ),
    "equal": (em.factors.equal(), lambda z: (z == z[:, :1]).all(-1)),
    "order": (em.factors.order(), lambda z: (z.diff(dim=-1) >= 0).all(-1)),
    "strict order": (em.factors.order(strict=True), lambda z: (z.diff(dim=-1) > 0).all(-1)),
    "allowed": (
        em.factors.allowed([(0, 1, 2), (2, 1, 2), (1, 1, 1)]),
        lambda z: (z[:, 1] == 1) & (z[:, 2] == 2 - (z[:, 0] == 1).long()),
    ),
    "regular": (em.factors.regular("a*b?c*", "abc"), lambda z: (z.diff(dim=-1) >= 0).all(-1) & ((z == 1).sum(-1) <= 1)),
    "automaton": (em.factors.automaton(em.rules.maximum(3, 3), 2), lambda z: z.amax(-1) == 2),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_factors_mean_what_they_say(name: str) -> None:
    factor, holds = MEANINGS[name]
    graph = em.FactorGraph(3, 3)
    graph.add(factor, (0, 1, 2))
    z = torch.tensor(list(itertools.product(range(3), repeat=3)))
    assert torch.equal(graph.label(z), holds(z).long())
    logits, label = draw(graph, 6)
    marginals, log_evidence = enumerate_posterior(graph, logits, holds(z).long())
    post = em.posterior(graph, logits, label)
    torch.testing.assert_close(post.marginals.double(), marginals, **ROUNDING)
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, **ROUNDING)


def test_noisy_or_is_its_formula() -> None:
    graph = em.FactorGraph(4, 2)
    graph.add(em.factors.noisy_or([0.9, 0.0, 0.4], leak=0.1), (2, 0, 3, 1))
    z = assignments(graph)
    off = 0.9 * (1 - 0.9 * z[:, 2]) * (1 - 0.4 * z[:, 3])
    expected = torch.where(z[:, 1] == 1, 1 - off, off)
    torch.testing.assert_close(graph.log_weight(z).exp(), expected.double(), atol=1e-7, rtol=0)


def test_equal_factors_share_their_tables() -> None:
    graph = board(6, 3)
    assert len(graph.tables(torch.device("cpu")).graph.pairs) == 1
    lines = em.FactorGraph(25, 2)
    lines.add(em.factors.regular("0*1{2}0+1{1}0*"), torch.arange(25).view(5, 5))
    assert len(lines.tables(torch.device("cpu")).chains.n_classes) <= 5


@pytest.mark.parametrize("graph", [loops(), tree(), board(5, 2)], ids=["loops", "tree", "grid"])
def test_waves_keep_the_order_of_factors_that_share_a_variable(graph: em.FactorGraph) -> None:
    tables = graph.tables(torch.device("cpu")).graph
    scopes = [set(part.tolist()) for part in tables.variable.tensor_split(tables.first[1:-1].long())]
    waves = [[f for f in wave if f >= 0] for wave in tables.waves.tolist()]
    assert sorted(itertools.chain(*waves)) == sorted(tables.order.tolist())
    assert tables.flood[tables.flood >= 0].sort().values.tolist() == list(range(len(scopes)))
    for wave, sizes in zip(waves, tables.wave_sizes.tolist(), strict=True):
        assert sum(len(scopes[f]) for f in wave) == len(set().union(*(scopes[f] for f in wave)))
        assert {int(tables.kind[f]) for f in wave} == {sizes[0]}
        assert sizes[1] == max(len(scopes[f]) for f in wave)
    for variable in range(graph.n_variables):
        one_after_the_other = [f for wave in waves for f in wave if variable in scopes[f]]
        assert one_after_the_other == [f for f in tables.order.tolist() if variable in scopes[f]]


@pytest.mark.parametrize(
    ("scopes", "message"),
    [
        ((0, 0), "different variables, got \\[0, 0\\]"),
        ((0, 9), "variables in 0..2, got 9"),
        ((0.5, 1), "must be variables, or a list of scopes"),
        ([(0, 1), (1,)], "must have one length"),
        ((0, 1, 2), "takes 2 variables, got a scope of 3"),
    ],
)
def test_wrong_scopes_are_named(scopes, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        em.FactorGraph(3, 2).add(em.factors.not_equal(), scopes)


def test_factors_without_an_assignment_are_refused() -> None:
    graph = em.FactorGraph(3, [1, 1, 2])
    for factor, scope in ((em.factors.not_equal(), (0, 1)), (em.factors.linear([1, 1, 1], 7), (0, 1, 2))):
        with pytest.raises(ValueError, match="forbids every assignment of variables with"):
            graph.add(factor, scope)


def test_factors_that_contradict_each_other_are_named() -> None:
    graph = em.FactorGraph(2, 2)
    graph.add(em.factors.table([1.0, 0.0]), (0,))
    graph.add(em.factors.table([0.0, 1.0]), (0,))
    with pytest.raises(ValueError, match="no value of variable 0 has a weight above 0"):
        em.posterior(graph, torch.zeros(1, 2, 2), torch.tensor([1]))
