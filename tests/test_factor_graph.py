"""Factor graphs: the stem factor_graph against enumeration and its reference, and what ``em.FactorGraph`` promises."""

from __future__ import annotations

import math

import pytest
import torch

import emnesy_gpu as em
from tests.factor_graphs import (
    assignments,
    board,
    crowd,
    draw,
    enumerate_posterior,
    grid_pairs,
    hard_tree,
    loops,
    pairs,
    star,
    tree,
)

ENGINES = [
    em.BeliefPropagation(iterations=12),
    em.BeliefPropagation(iterations=30, damping=0.3, schedule="flooding", tolerance=1e-3),
    em.BeliefPropagation(iterations=0),
]
ROUNDING = {"atol": 3e-6, "rtol": 3e-6}
"""float32 rounds each of about 300 operations of a message by 6e-8, and errors do not grow from sweep to sweep."""


def ids(engine: em.BeliefPropagation) -> str:
    return f"{engine.schedule}-{engine.iterations}"


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_tree_is_exact(backend: str) -> None:
    graph = tree()
    logits, label = draw(graph, 40, dtype=torch.float64)
    marginals, log_evidence = enumerate_posterior(graph, logits)
    with em.backend(backend):
        post = em.posterior(graph, logits, label)
        by_messages = em.posterior(graph, logits, label, em.BeliefPropagation(iterations=2))
    assert graph.is_tree
    torch.testing.assert_close(post.marginals, marginals, atol=1e-12, rtol=0)
    torch.testing.assert_close(post.log_evidence, log_evidence, atol=1e-11, rtol=0)
    torch.testing.assert_close(by_messages.marginals, marginals, atol=1e-12, rtol=0)


@pytest.mark.parametrize("engine", ENGINES, ids=ids)
@pytest.mark.parametrize(
    "graph",
    [loops(), board(4, 2), board(3, 5), star(2), star([3] + [2] * 70)],
    ids=["mixed", "bits", "grid", "star of bits", "star"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_is_the_reference_with_the_same_schedule(graph, engine, dtype) -> None:
    logits, label = draw(graph, 67, dtype=dtype)
    found = em.posterior(graph, logits, label, engine)
    with em.backend("reference"):
        expected = em.posterior(graph, logits, label, engine)
    tolerance = {"atol": 1e-12, "rtol": 1e-12} if dtype == torch.float64 else ROUNDING
    assert torch.equal(found.possible, expected.possible)
    torch.testing.assert_close(found.marginals, expected.marginals, **tolerance)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, **tolerance)
    assert torch.equal(found.info["iterations"], expected.info["iterations"])


@pytest.mark.parametrize("schedule", ["serial", "flooding"])
def test_pairs_of_either_order_around_many_neighbours(schedule: str) -> None:
    """In float64 and few sweeps: messages do not converge, and each sweep makes rounding errors larger."""
    graph, engine = crowd(), em.BeliefPropagation(iterations=4, schedule=schedule, tolerance=0.0)
    logits, label = draw(graph, 33, sd=0.5, dtype=torch.float64)
    found = em.posterior(graph, logits, label, engine)
    with em.backend("reference"):
        expected = em.posterior(graph, logits, label, engine)
    torch.testing.assert_close(found.marginals, expected.marginals, atol=1e-10, rtol=0.0)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, atol=1e-9, rtol=0.0)


@pytest.mark.parametrize("sd", [30.0, 1000.0])
def test_confident_logits_are_computed_with_a_wider_range(sd: float) -> None:
    graph = loops()
    logits, label = draw(graph, 33, sd)
    logits[5, 0, 0] = logits[7, 4] = -torch.inf
    logits[7, 4, 1] = 0.0
    found = em.posterior(graph, logits, label, ENGINES[0])
    with em.backend("reference"):
        expected = em.posterior(graph, logits, label, ENGINES[0])
    assert torch.equal(found.possible, expected.possible)
    torch.testing.assert_close(found.marginals, expected.marginals, **ROUNDING)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, **ROUNDING)


def test_symbols_of_many_factors_neither_overflow_nor_underflow() -> None:
    graph = em.FactorGraph(301, 2)
    graph.add(em.factors.pairwise([[0.9, 0.1], [0.2, 0.8]]), [(0, i) for i in range(1, 301)])
    logits, label = draw(graph, 33)
    found = em.posterior(graph, logits, label)  # a star, which is a tree
    prior = torch.softmax(logits.double(), -1)
    table = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    log_joint = prior[:, 0].log() + (prior[:, 1:] @ table.T).log().sum(1)
    log_evidence = torch.logsumexp(log_joint, 1)
    torch.testing.assert_close(found.marginals[:, 0].double(), torch.softmax(log_joint, 1), atol=1e-4, rtol=0)
    # The odds are products of 300 messages, each rounded by 1e-7 or less.
    torch.testing.assert_close(found.log_evidence.double(), log_evidence, atol=1e-3, rtol=1e-6)


@pytest.mark.parametrize("sd", [3.0, 15.0])  # of the latter, many rows need a wider range
def test_rows_have_the_same_bits_in_any_batch_and_in_any_number_of_threads(sd: float) -> None:
    graph, engine = loops(), em.BeliefPropagation(iterations=40, tolerance=1e-4)
    logits, label = draw(graph, 150, sd)
    whole = em.posterior(graph, logits, label, engine)
    parts = [em.posterior(graph, logits[part], label[part], engine) for part in torch.arange(150).split(7)]
    for field in ("marginals", "log_evidence", "possible"):
        assert torch.equal(torch.cat([getattr(part, field) for part in parts]), getattr(whole, field))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(em.posterior(graph, logits, label, engine).marginals, whole.marginals)
    finally:
        torch.set_num_threads(threads)


def _path() -> em.FactorGraph:
    graph = em.FactorGraph(12, 3)
    graph.add(em.factors.pairwise(1.0 + torch.eye(3)), [(i, i + 1) for i in range(9)])
    return graph


def _large() -> em.FactorGraph:
    graph = em.FactorGraph(9, 17)
    weights = 1.0 + torch.rand(17, 17, generator=torch.Generator().manual_seed(0))
    graph.add(em.factors.pairwise(weights), grid_pairs(3))
    return graph


PAIRS = {"grid of bits": board(6, 2), "grid": board(4, 5), "path": _path(), "large tables": _large()}
PAIRS |= {f"pairs {i}": pairs(i) for i in range(6)}


@pytest.mark.parametrize("graph", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("engine", ENGINES, ids=ids)
def test_few_rows_have_the_bits_of_many(graph: em.FactorGraph, engine: em.BeliefPropagation) -> None:
    for dtype in (torch.float32, torch.float64):
        logits, label = draw(graph, 40, 5.0, dtype)
        logits[30:] *= 40.0  # some of these need a wider range
        logits.view(40, graph.n_variables, -1)[3, 0, 1:] = -torch.inf
        whole = em.posterior(graph, logits, label, engine)
        for part in (slice(0, 1), slice(3, 4), slice(30, 31), slice(33, 40)):
            found = em.posterior(graph, logits[part], label[part], engine)
            for field in ("marginals", "log_evidence", "possible"):
                assert torch.equal(getattr(found, field), getattr(whole, field)[part])
            assert all(torch.equal(found.info[name], whole.info[name][part]) for name in whole.info)


def test_messages_of_a_subclass_are_not_left_out() -> None:
    class Doubled(em.FactorGraph):
        def loopy_marginals(self, logits, label, settings, check):
            return super().loopy_marginals(2 * logits, label, settings, check)

    graphs = Doubled(2, 2), em.FactorGraph(2, 2)
    for graph in graphs:
        graph.add(em.factors.pairwise([[2.0, 1.0], [1.0, 3.0]]), [(0, 1)])
    logits, label = draw(graphs[1], 3)
    found, expected = (
        em.posterior(graph, some, label, ENGINES[0]) for graph, some in zip(graphs, (logits, 2 * logits), strict=True)
    )
    assert torch.equal(found.marginals, expected.marginals)


def test_rows_that_have_converged_stop_and_others_are_reported() -> None:
    graph = em.FactorGraph(3, 2)
    graph.add(em.factors.pairwise([[1.0, 30.0], [30.0, 1.0]]), [(0, 1), (1, 2), (2, 0)])  # frustrated
    logits, label = draw(graph, 50, 0.1)
    logits[0] = torch.tensor([40.0, 0.0])
    post = em.posterior(graph, logits, label, em.BeliefPropagation(iterations=5, tolerance=1e-3))
    assert int(post.info["iterations"][0]) < 5
    assert bool(post.info["converged"][0])
    assert torch.equal(post.info["converged"], post.info["change"] < 1e-3)


def test_contradictory_evidence_is_impossible() -> None:
    graph = em.FactorGraph(3, 2)
    graph.add(em.factors.equal(), [(0, 1), (1, 2), (0, 2)])
    logits, label = draw(graph, 4)
    logits[1, 0], logits[1, 2] = torch.tensor([0.0, -torch.inf]), torch.tensor([-torch.inf, 0.0])
    for engine in (*ENGINES, em.MAP()):
        post = em.posterior(graph, logits, label, engine)
        assert post.possible.tolist() == [True, False, True, True]
        torch.testing.assert_close(post.marginals[1], torch.softmax(logits[1], -1))
        assert post.log_evidence[1] == -torch.inf


def test_values_that_do_not_exist_have_posterior_0_and_their_mass_is_lost() -> None:
    graph = em.FactorGraph(2, [2, 3])
    post = em.posterior(graph, torch.zeros(1, 2, 3), torch.tensor([1]))
    assert post.marginals[0, 0].tolist() == [0.5, 0.5, 0.0]
    assert post.log_evidence.item() == pytest.approx(math.log(2 / 3))


def test_label_not_given_is_label_1() -> None:
    graph = loops()
    logits, label = draw(graph, 5)
    engine = em.BeliefPropagation()
    assert torch.equal(
        em.posterior(graph, logits, -label, engine).marginals, em.posterior(graph, logits, label, engine).marginals
    )


def test_label_0_is_the_complement_on_a_hard_tree() -> None:
    graph = hard_tree()
    logits, label = draw(graph, 10)
    logits[0] = 30.0 * torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 2, 0, 2]), 3)  # surely valid
    marginals, log_evidence = enumerate_posterior(graph, logits, 1 - graph.label(assignments(graph)))
    post = em.posterior(graph, logits, 0 * label)
    torch.testing.assert_close(post.marginals.double(), marginals, atol=1e-6, rtol=0)
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, atol=1e-5, rtol=1e-6)
    mixed = em.posterior(graph, logits, torch.arange(10) % 2)
    assert torch.equal(mixed.marginals[::2], post.marginals[::2])
    best = em.posterior(graph, logits, 0 * label, em.MAP())
    z = assignments(graph)
    log_joint = (
        torch.log_softmax(logits, -1)[:, torch.arange(7), z].sum(-1).masked_fill(graph.label(z) == 1, -torch.inf)
    )
    assert torch.equal(best.info["assignment"], z[log_joint.argmax(1)])
    torch.testing.assert_close(best.log_evidence, log_joint.amax(1), **ROUNDING)


def test_label_0_of_a_graph_that_cannot_fail_is_impossible() -> None:
    graph = em.FactorGraph(2, 2)
    graph.add(em.factors.at_most(2), (0, 1))
    for engine in (em.Exact(), em.MAP()):
        post = em.posterior(graph, torch.zeros(3, 2, 2), torch.tensor([0, 1, 0]), engine)
        assert post.possible.tolist() == [False, True, False]
        assert post.log_evidence[[0, 2]].tolist() == [-torch.inf] * 2


def test_label_0_of_loops_and_of_weights_is_refused() -> None:
    hard = em.FactorGraph(3, 2)
    hard.add(em.factors.not_equal(), [(0, 1), (1, 2), (2, 0)])
    for graph, reason in ((hard, "cycle"), (tree(), "weights")):
        logits, label = draw(graph, 2)
        with pytest.raises(em.UnsupportedEngineError, match=reason):
            em.posterior(graph, logits, 0 * label, em.BeliefPropagation())


def test_exact_inference_of_loops_is_refused_with_the_reason() -> None:
    graph = loops()
    logits, label = draw(graph, 2)
    with pytest.raises(em.UnsupportedEngineError, match="its factors form a cycle"):
        em.posterior(graph, logits, label, em.Exact())


def test_map_of_a_tree_is_the_most_probable_assignment() -> None:
    graph = tree()
    logits, label = draw(graph, 20)
    z = assignments(graph)
    log_joint = torch.log_softmax(logits.double(), -1)[:, torch.arange(9), z].sum(-1) + graph.log_weight(z)
    best, which = log_joint.max(1)
    post = em.posterior(graph, logits, label, em.MAP())
    assert torch.equal(post.info["assignment"], z[which])
    assert bool(post.info["valid"].all())
    torch.testing.assert_close(post.log_evidence.double(), best, atol=1e-5, rtol=1e-6)


def test_map_of_a_noisy_or_weighs_assignments_and_not_paths() -> None:
    """Its automaton has a path for each set of causes that act; by best paths 24 of these 200 rows had another one."""
    graph = em.FactorGraph(5, 2)
    graph.add(em.factors.noisy_or([0.6, 0.5, 0.4], leak=0.2), (0, 1, 2, 3))
    graph.add(em.factors.pairwise([[2.0, 1.0], [1.0, 2.0]]), (3, 4))
    logits = torch.randn(200, 5, 2, generator=torch.Generator().manual_seed(1))
    z = assignments(graph)
    log_joint = torch.log_softmax(logits.double(), -1)[:, torch.arange(5), z].sum(-1) + graph.log_weight(z)
    post = em.posterior(graph, logits, torch.ones(200, dtype=torch.int64), em.MAP())
    assert torch.equal(post.info["assignment"], z[log_joint.argmax(1)])
    torch.testing.assert_close(post.log_evidence.double(), log_joint.amax(1), atol=1e-5, rtol=1e-6)


def test_the_search_has_tables_of_its_own_only_for_several_paths() -> None:
    host, noisy = torch.device("cpu"), em.FactorGraph(4, 2)
    noisy.add(em.factors.noisy_or([0.6, 0.5]), [(0, 1, 2), (1, 2, 3)])
    for graph, same in ((tree(), True), (noisy, False)):
        assert (graph._tables_of_search(host) is graph.tables(host)) == same


def test_one_automaton_in_a_graph_is_the_automaton() -> None:
    rule = em.rules.compare(2, base=4)
    graph = em.FactorGraph(4, 4, latent_shape=(2, 2))
    graph.add(em.factors.automaton(rule, label="<"), range(4))
    logits, label = draw(graph, 30)
    expected = em.posterior(rule, logits, 0 * label)
    found = em.posterior(graph, logits, label)
    torch.testing.assert_close(found.marginals, expected.marginals, **ROUNDING)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, **ROUNDING)


def test_pairs_on_a_tree_equal_the_kernel_of_pairs() -> None:
    """Both are exact there, whatever their schedules: belief propagation of the pairs, and two sweeps of the graph."""
    edges = [(0, 1), (1, 2), (1, 3)]
    problem, graph = em.AllDifferent(edges, 4, 3), em.FactorGraph(4, 3)
    graph.add(em.factors.not_equal(), edges)
    logits, label = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)), torch.ones(5, dtype=torch.int64)
    pairs = em.posterior(problem, logits, label, em.BeliefPropagation(10, factors="pairwise"))
    found = em.posterior(graph, logits, label)
    torch.testing.assert_close(found.marginals, pairs.marginals, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.log_evidence, pairs.log_evidence, rtol=0, atol=2e-6)


def test_a_graph_of_rows_columns_and_boxes_is_a_sudoku() -> None:
    board_4, graph = em.Sudoku(4), em.FactorGraph(16, 4, latent_shape=(4, 4))
    groups = board_4.tables(torch.device("cpu")).groups
    graph.add(em.factors.all_different(), groups)
    logits, label = draw(graph, 20, dtype=torch.float64)
    # The phases of a Sudoku are groups without a common cell, so that both renew messages in the same order.
    for engine in (em.BeliefPropagation(iterations=3), em.BeliefPropagation(iterations=3, schedule="flooding")):
        found, expected = (em.posterior(problem, logits, label, engine) for problem in (graph, board_4))
        torch.testing.assert_close(found.marginals, expected.marginals, atol=1e-11, rtol=0)
        torch.testing.assert_close(found.log_evidence, expected.log_evidence, atol=1e-11, rtol=0)


def test_samplers_count_the_factors_that_hold() -> None:
    graph = hard_tree()
    logits, label = draw(graph, 4, 0.5)
    exact = em.posterior(graph, logits, label)
    by_samples = em.posterior(graph, logits, label, em.Rejection(samples=20000))
    torch.testing.assert_close(by_samples.marginals, exact.marginals, atol=0.1, rtol=0)
    chains = em.posterior(graph, logits, label, em.Gibbs(chains=64, sweeps=60, penalty=5.0))
    torch.testing.assert_close(chains.marginals, exact.marginals, atol=0.1, rtol=0)
    with pytest.raises(em.UnsupportedEngineError, match="weights"):
        em.posterior(tree(), *draw(tree(), 2), em.Gibbs())


def test_the_fused_loss_of_a_tree_has_the_gradient_of_its_evidence() -> None:
    graph = tree()
    logits, label = draw(graph, 6, dtype=torch.float64)
    logits.requires_grad_()
    em.fused_em_loss(graph, logits, label).backward()
    again = logits.detach().requires_grad_()
    log_evidence = enumerate_posterior(graph, again)[1]
    (-log_evidence.mean()).backward()
    torch.testing.assert_close(logits.grad, again.grad, atol=1e-12, rtol=0)


def test_wrong_labels_and_logits_are_named() -> None:
    graph = loops()
    logits, label = draw(graph, 3)
    with pytest.raises(ValueError, match=r"label\[1\] must be 1 \(all factors hold\), or -1 \(not given\), got 2"):
        em.posterior(graph, logits, torch.tensor([1, 2, 1]), em.BeliefPropagation())
    logits[2, 1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"logits\[2, 1, 0\] must be finite or -inf, got nan"):
        em.posterior(graph, logits, label, em.BeliefPropagation())
    post = em.posterior(graph, logits, label, em.BeliefPropagation(), check=False)
    assert post.possible.tolist() == [True, True, False]


def test_an_empty_batch_and_an_empty_graph() -> None:
    graph = em.FactorGraph(2, 3)
    logits, label = draw(graph, 5)
    torch.testing.assert_close(em.posterior(graph, logits, label).marginals, torch.softmax(logits, -1))
    assert em.posterior(loops(), *draw(loops(), 0), em.BeliefPropagation()).marginals.shape == (0, 9, 3)


def test_samples_of_a_tree_have_its_posterior() -> None:
    graph = tree()
    logits, label = draw(graph, 2)
    logits[1, 0] = torch.tensor([0.0, -torch.inf, 0.0])
    z = em.sample_posterior(graph, logits, label, n_samples=4000, seed=3)
    exact = em.posterior(graph, logits, label).marginals
    found = torch.nn.functional.one_hot(z, 3).float().mean(0)
    torch.testing.assert_close(found, exact, atol=0.04, rtol=0)  # five deviations of a mean of 4000
    together = em.FactorGraph(9, [2, 3, 2, 2, 3, 2, 3, 3, 2])
    together.add(em.factors.parity(1), (0, 2, 3))
    assert bool((together.label(z) == 1).all())


def test_samples_have_the_same_bits_in_any_batch_and_on_every_back_end() -> None:
    graph = tree()
    logits, label = draw(graph, 6)
    whole = em.sample_posterior(graph, logits, label, n_samples=5, seed=1)
    parts = [
        em.sample_posterior(graph, logits[r], label[r], n_samples=5, seed=1, first_row=r.start)
        for r in (slice(0, 1), slice(1, 6))
    ]
    assert torch.equal(torch.cat(parts, 1), whole)
    with em.backend("reference"):
        assert torch.equal(em.sample_posterior(graph, logits, label, n_samples=5, seed=1), whole)


def test_samples_given_label_0_fail_and_impossible_rows_are_drawn_from_the_prior() -> None:
    graph = hard_tree()
    logits, _ = draw(graph, 4)
    z = em.sample_posterior(graph, logits, torch.tensor([0, 1, 0, 1]), n_samples=50, seed=2)
    assert torch.equal(graph.label(z), torch.tensor([0, 1, 0, 1]).expand(50, 4))
    never = em.FactorGraph(2, 2)
    never.add(em.factors.at_most(2), (0, 1))
    drawn = em.sample_posterior(never, torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), torch.tensor([0]), 2000, seed=1)
    torch.testing.assert_close(drawn.float().mean((0, 1)), torch.tensor([0.731, 0.5]), atol=0.06, rtol=0)
