"""Belief propagation by residuals: its definition in plain loops, every back end against it, and where it helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from profiling.schedules import fields, spins
from tests.factor_graphs import board, draw, enumerate_posterior, grid_pairs, loops, tree

ROUNDING = {"atol": 3e-6, "rtol": 3e-6}


def residual(iterations: int, damping: float = 0.0, tolerance: float = 0.0) -> em.BeliefPropagation:
    return em.BeliefPropagation(iterations, damping, "residual", tolerance=tolerance)


def by_hand(pairs: list[tuple[int, int]], logits: np.ndarray, sweeps: int, damping: float) -> np.ndarray:
    """Beliefs [n, K] of one row on a board of 1 + identity tables, by the definition."""
    n, k = logits.shape
    prior, table = np.exp(logits), 1.0 + np.eye(k)
    messages = {(f, i): np.full(k, 1.0 / k) for f, pair in enumerate(pairs) for i in pair}
    waiting = [0.0] * len(pairs)

    def product(i: int, left_out: int) -> np.ndarray:
        return prior[i] * np.prod([m for (f, j), m in messages.items() if j == i and f != left_out], axis=0)

    for turn in range(sweeps * len(pairs)):
        f = turn if turn < len(pairs) else max(range(len(pairs)), key=lambda g: (waiting[g], -g))
        first, second = pairs[f]
        fresh = {first: table @ product(second, f), second: table.T @ product(first, f)}
        steps = {}
        for i, message in fresh.items():
            new = (1.0 - damping) * message / message.sum() + damping * messages[f, i]
            steps[i] = np.abs(new - messages[f, i]).max()
            messages[f, i] = new
        for g, pair in enumerate(pairs):
            waiting[g] += sum(steps.get(i, 0.0) for i in pair)
        waiting[f] = damping / (1.0 - damping) * max(steps.values())
    beliefs = np.stack([product(i, -1) for i in range(n)])
    return beliefs / beliefs.sum(1, keepdims=True)


@pytest.mark.parametrize("damping", [0.0, 0.4])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_it_is_its_definition(backend: str, damping: float) -> None:
    graph = board(3, 2)
    logits, label = draw(graph, 4, dtype=torch.float64)
    with em.backend(backend):
        found = em.posterior(graph, logits, label, residual(3, damping)).marginals.view(4, 9, 2)
        serial = em.posterior(graph, logits, label, em.BeliefPropagation(3, damping)).marginals.view(4, 9, 2)
    expected = np.stack([by_hand(grid_pairs(3), row.view(9, 2).numpy(), 3, damping) for row in logits])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (found - serial).abs().max() > 1e-6


@pytest.mark.parametrize("engine", [residual(6), residual(8, 0.3, 1e-3), residual(0)])
@pytest.mark.parametrize("graph", [loops(), board(4, 2), board(3, 5)], ids=["mixed", "bits", "grid"])
def test_the_kernel_is_the_reference(graph: em.FactorGraph, engine: em.BeliefPropagation) -> None:
    logits, label = draw(graph, 9)
    logits[1, :, ..., 1] *= 20.0  # a row that needs float64
    logits[2].view(-1, graph.cardinality)[0, 0] = -torch.inf
    found = em.posterior(graph, logits, label, engine)
    with em.backend("reference"):
        expected = em.posterior(graph, logits, label, engine)
    assert torch.equal(found.possible, expected.possible)
    torch.testing.assert_close(found.marginals, expected.marginals, **ROUNDING)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, **ROUNDING)
    torch.testing.assert_close(found.info["change"], expected.info["change"], **ROUNDING)


def test_the_first_sweep_is_the_serial_one_to_the_bit() -> None:
    for graph in (loops(), board(4, 2)):
        logits, label = draw(graph, 40)
        found, expected = (em.posterior(graph, logits, label, e) for e in (residual(1), em.BeliefPropagation(1)))
        assert torch.equal(found.marginals, expected.marginals)
        assert torch.equal(found.log_evidence, expected.log_evidence)


def test_a_tree_is_exact_after_one_sweep() -> None:
    graph = tree()
    logits, label = draw(graph, 5, dtype=torch.float64)
    marginals, log_evidence = enumerate_posterior(graph, logits)
    for sweeps in (1, 3):
        post = em.posterior(graph, logits, label, residual(sweeps))
        torch.testing.assert_close(post.marginals, marginals, atol=1e-12, rtol=0)
        torch.testing.assert_close(post.log_evidence, log_evidence, atol=1e-11, rtol=0)


def test_rows_have_the_same_bits_in_any_batch() -> None:
    graph, engine = board(4, 2), residual(20, tolerance=1e-4)
    logits, label = draw(graph, 37)
    whole = em.posterior(graph, logits, label, engine)
    for part in torch.arange(37).split(5):
        some = em.posterior(graph, logits[part], label[part], engine)
        assert torch.equal(some.marginals, whole.marginals[part])
        assert torch.equal(some.info["iterations"], whole.info["iterations"][part])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_contradictions_and_empty_graphs_and_batches(backend: str) -> None:
    graph = em.FactorGraph(3, 2)
    graph.add(em.factors.not_equal(), [(0, 1), (1, 2), (0, 2)])
    logits = torch.zeros(2, 3, 2)
    logits[1, 0, 0] = logits[1, 1, 0] = -torch.inf  # both are 1, and must differ
    with em.backend(backend):
        post = em.posterior(graph, logits, torch.ones(2, dtype=torch.int64), residual(5))
        assert post.possible.tolist() == [True, False]
        assert em.posterior(graph, logits[:0], torch.ones(0, dtype=torch.int64), residual(5)).marginals.shape == (
            0,
            3,
            2,
        )
        alone = em.posterior(em.FactorGraph(3, 2), logits, torch.ones(2, dtype=torch.int64), residual(5))
    torch.testing.assert_close(alone.marginals, torch.softmax(logits, -1))


def test_it_converges_where_other_schedules_do_not() -> None:
    """Of 64 fields on a grid of strong couplings, with at most 200 sweeps; all schedules find the same fixed points."""
    graph, logits, label = spins(10, 1.5), fields(10, 64), torch.ones(64, dtype=torch.int64)
    runs = {}
    for schedule in ("serial", "flooding", "residual"):
        engine = em.BeliefPropagation(200, schedule=schedule, tolerance=1e-5)
        runs[schedule] = em.posterior(graph, logits, label, engine)
    converged = {name: run.info["converged"] for name, run in runs.items()}
    assert converged["residual"].float().mean() > 0.98
    assert converged["flooding"].float().mean() < 0.8
    sweeps = {name: run.info["iterations"].double().mean() for name, run in runs.items()}
    assert 2 * sweeps["residual"] < sweeps["serial"] < sweeps["flooding"]
    both = converged["residual"] & converged["serial"]
    gap = (runs["residual"].marginals - runs["serial"].marginals)[both].abs().amax((1, 2))
    assert gap.median() < 1e-3


def test_it_compiles() -> None:
    graph = board(3, 2)
    logits, label = draw(graph, 3)
    engine = residual(3)
    compiled = torch.compile(lambda logits: em.posterior(graph, logits, label, engine).marginals, fullgraph=True)
    torch.testing.assert_close(compiled(logits), em.posterior(graph, logits, label, engine).marginals)


def test_boards_say_that_they_have_no_such_schedule() -> None:
    problem = em.Sudoku(4)
    with pytest.raises(ValueError, match=r"schedule must be one of .* got 'residual'; em.FactorGraph has it"):
        em.posterior(problem, torch.zeros(1, 4, 4, 4), torch.tensor([1]), residual(3))
