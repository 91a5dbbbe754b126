"""Ctrl-C within a long call of a kernel is answered at once, on every number of threads."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.kernels.cpu.common import parallel

KERNELS_OF_ANY_BATCH = 17
"""Fewer rows may take kernels of their own: what a long call needs is to be compiled before."""


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def interrupt_after(seconds: float) -> None:
    number, main_thread = signal.SIGINT, threading.main_thread().ident
    threading.Timer(seconds, lambda: signal.pthread_kill(main_thread, number)).start()


def test_a_long_call_of_gibbs_ends_at_once(threads: int) -> None:
    """Twenty rows of 256 symbols with 500 sweeps of 8 chains take seconds; so does one row of 60,000 sweeps."""
    problem = em.Sudoku(16)
    logits, label = torch.zeros(20, 16, 16, 16), torch.ones(20, dtype=torch.int64)
    for rows in (1, 20):
        em.posterior(problem, logits[:rows], label[:rows], em.Gibbs(sweeps=2))
    for rows, sweeps in ((20, 2000), (1, 60_000)):
        began = time.process_time()
        interrupt_after(0.2)
        with pytest.raises(KeyboardInterrupt):
            em.posterior(problem, logits[:rows], label[:rows], em.Gibbs(sweeps=sweeps))
        assert time.process_time() - began < 1.2


def ring(n: int) -> em.FactorGraph:
    graph = em.FactorGraph(n, 4)
    graph.add(em.factors.pairwise([[1.0, 2.0, 3.0, 4.0]] * 4), [(i, (i + 1) % n) for i in range(n)])
    return graph


@pytest.mark.parametrize(
    ("make", "engine_of", "rows"),
    [
        (lambda: em.Sudoku(9), lambda n: em.ABC(samples=10_000 * n), 200),
        (lambda: em.Sudoku(9), lambda n: em.ABC(samples=10_000 * n, target_ess=100.0), 200),
        (lambda: em.Sudoku(9), lambda n: em.Rejection(samples=10_000 * n), 200),
        (lambda: em.ShortestPath(30, 30), lambda n: em.ABC(samples=2_000 * n), 20),
        (lambda: em.rules.maximum(50, 10), lambda n: em.Gibbs(chains=64, sweeps=3 * n), 64),
        (lambda: em.Sudoku(9), lambda n: em.MAP(), 3000),
        (lambda: ring(64), lambda n: em.MAP(), 500),
    ],
    ids=["ABC", "ABC with a target", "rejection", "paths", "Gibbs of a rule", "MAP of boards", "MAP of a graph"],
)
def test_long_calls_of_samplers_and_searches_end_at_once(
    make: Callable[[], em.Problem], engine_of: Callable[[int], em.Engine], rows: int
) -> None:
    problem = make()
    logits = torch.randn(rows, *problem.latent_shape, problem.cardinality)
    label = torch.ones(rows, *problem.label_shape, dtype=torch.int64)
    few = slice(0, min(rows, KERNELS_OF_ANY_BATCH))
    em.posterior(problem, logits[few], label[few], engine_of(1), check=False)
    cpu_seconds_until_idle()
    began = time.process_time()
    interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        em.posterior(problem, logits, label, engine_of(10), check=False)
    assert time.process_time() - began < 1.1
    assert cpu_seconds_until_idle() < 2.0


@pytest.mark.parametrize(
    ("make", "factors"),
    [(lambda: em.Sudoku(16), "all_different"), (lambda: em.Sudoku(16), "pairwise"), (lambda: ring(256), None)],
    ids=["all_different", "pairwise", "graph"],
)
def test_belief_propagation_ends_after_its_sweep(make: Callable[[], em.Problem], factors: str | None) -> None:
    """One block of 32 boards would compute for minutes."""
    problem = make()
    options = {} if factors is None else {"factors": factors}
    engine = em.BeliefPropagation(iterations=10_000_000, tolerance=0.0, **options)
    logits = torch.randn(32, *problem.latent_shape, problem.cardinality)
    label = torch.ones(32, dtype=torch.int64)
    em.posterior(problem, logits, label, em.BeliefPropagation(iterations=1, **options))
    cpu_seconds_until_idle()  # calls of other tests may still compute what nobody waits for
    interrupt_after(0.2)
    with pytest.raises(KeyboardInterrupt):
        em.posterior(problem, logits, label, engine)
    assert cpu_seconds_until_idle() < 2.0


def cpu_seconds_until_idle() -> float:
    """What threads in the background compute until they are through, within a minute."""
    began, last, deadline = time.process_time(), -1.0, time.monotonic() + 60
    while time.process_time() - last > 0.05 and time.monotonic() < deadline:
        last = time.process_time()
        time.sleep(0.1)
    return time.process_time() - began


def test_ranges_that_have_not_begun_are_left_out(threads: int) -> None:
    taken = []

    def work(first: int, last: int) -> None:
        taken.append(first)
        time.sleep(0.05)

    interrupt_after(0.12)
    with pytest.raises(KeyboardInterrupt):
        parallel.for_rows(work, 100, 1, parallel.LARGEST_RANGE)
    begun = len(taken)
    time.sleep(0.2)
    assert len(taken) <= begun + threads
    assert begun < 20


def test_long_calls_have_the_bits_of_short_ones(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, label = em.Sudoku(9), torch.ones(50, dtype=torch.int64)
    logits = torch.randn(50, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    for engine in (em.Gibbs(sweeps=3), em.ABC(samples=200, target_ess=20.0), em.BeliefPropagation(3)):
        expected = em.posterior(problem, logits, label, engine)
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "LARGEST_RANGE", 100_000)
            patch.setattr(parallel, "SMALLEST_RANGE", 100_000)
            found = em.posterior(problem, logits, label, engine)
        assert torch.equal(found.marginals, expected.marginals)
        assert torch.equal(found.log_evidence, expected.log_evidence)


@pytest.mark.parametrize("row_cost", [0.0, 1.0, 1e9])
def test_a_batch_of_any_cost_is_covered(threads: int, row_cost: float) -> None:
    for rows in (0, 1, 7):
        ranges: list[tuple[int, int]] = []
        parallel.for_rows(lambda first, last, ranges=ranges: ranges.append((first, last)), rows, 2, row_cost)
        assert [row for first, last in sorted(ranges) for row in range(first, last)] == list(range(rows))
