"""Ranges of rows in threads: two of them are never slower than one for long, and torch starts none of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Event, current_thread, main_thread

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.inference.row_parts import in_parts
from emnesy_gpu.kernels.cpu.common import parallel

ROWS, COST, PAYBACK = 8, float(parallel.SMALLEST_RANGE), parallel.PAYBACK


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(parallel, "_alone_until", 0.0)
    monkeypatch.setattr(parallel, "PAYBACK", PAYBACK)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def ranges_of_a_call(held_up: float) -> list[tuple[int, int]]:
    """Those of the caller, while the other thread takes at least one range and so many seconds for it."""
    others, own = Event(), []

    def work(first: int, last: int) -> None:
        if current_thread() is not main_thread():
            others.set()
            time.sleep(held_up)
        else:
            own.append((first, last))
            if last - first < ROWS:
                others.wait()

    parallel.for_rows(work, ROWS, 1, COST)
    return own


def test_calls_take_one_thread_after_another_one_was_held_up() -> None:
    assert len(ranges_of_a_call(held_up=0.3)) < ROWS
    assert ranges_of_a_call(held_up=0.0) == [(0, ROWS)]


def test_calls_take_one_thread_after_the_caller_was_held_up() -> None:
    """As by another thread on its core: it takes its time, and computes little."""
    names = []

    def work(first: int, last: int) -> None:
        names.append(current_thread().name)
        time.sleep(0.01)

    for _ in range(2):
        parallel.for_rows(work, ROWS, 1, COST)
    assert len(set(names[:ROWS])) == 2
    assert names[ROWS:] == [main_thread().name]


def test_calls_are_not_alone_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "LONGEST_ALONE", 0.0)
    for _ in range(2):
        assert len(ranges_of_a_call(held_up=0.1)) < ROWS


@pytest.mark.parametrize(("rows", "ranges"), [(1, 1), (2, 2), (3, 2), (5, 4), (8, 8), (100, 8)])
def test_threads_have_equally_many_ranges(rows: int, ranges: int) -> None:
    found: list[tuple[int, int]] = []
    parallel.for_rows(lambda first, last: found.append((first, last)), rows, 1, COST)
    assert len(found) == ranges
    assert sorted(row for first, last in found for row in range(first, last)) == list(range(rows))


def test_calls_share_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PAYBACK", 1e-6)
    for _ in range(2):
        assert len(ranges_of_a_call(held_up=0.1)) < ROWS


def test_work_of_another_thread_hands_nothing_out() -> None:
    """All threads would wait for each other."""
    found = []

    def work(first: int, last: int) -> None:
        parallel.for_rows(lambda *rows: found.append((current_thread().name, rows)), ROWS, 1, 1e9)

    parallel.for_rows_in_torch(work, 2, 1, COST)
    assert {rows for _, rows in found} == {(0, ROWS)}
    assert all(name.startswith("emnesy_gpu_") for name, _ in found)


def test_parts_know_the_context_of_the_caller_and_have_one_thread_of_torch() -> None:
    seen = set()

    def compute(first: int, last: int) -> tuple[torch.Tensor]:
        seen.add((torch.get_num_threads(), torch.is_grad_enabled(), em.backends.backend_for(torch.device("cpu"))))
        return (torch.arange(first, last),)

    (found,) = in_parts(compute, torch.zeros(7, 3), 2, COST)
    assert found.tolist() == list(range(7))
    assert seen == {(1, False, "cpu")}
    assert torch.get_num_threads() == 2


def test_what_a_mode_watches_stays_in_its_thread() -> None:
    names = set()

    def compute(first: int, last: int) -> tuple[torch.Tensor]:
        names.add(current_thread())
        return (torch.arange(first, last),)

    with torch.device("cpu"):
        in_parts(compute, torch.zeros(7, 3), 2, COST)
    assert names == {main_thread()}


THREADS = """
import os, warnings, torch, emnesy_gpu as em
from emnesy_gpu.kernels.cpu.common import parallel
from tests.test_large_batches import MODULO, CIRCUIT
warnings.simplefilter("ignore")
graph = em.FactorGraph(7, 3)
graph.add(em.factors.pairwise([[2.0, 1.0, 0.5], [0.7, 3.0, 1.0], [1.0, 0.2, 1.5]]), [(0, 1), (1, 2), (2, 3), (0, 3)])
ENGINES = {"ABC": em.ABC(256), "Gibbs": em.Gibbs(2, 4), "MAP": em.MAP()}
CASES = [
    (em.Sudoku(9), "MAP", 64),
    (graph, "MAP", 512),
    (em.ShortestPath(12), "ABC", 512),
    (em.ShortestPath(12), "Gibbs", 64),
    (em.Addition(4), "ABC", 512),
    (em.Addition(4), "Gibbs", 512),
    (MODULO, "ABC", 512),
    (CIRCUIT, "Gibbs", 512),
]
torch.set_num_threads(1)
rows, generator = [], torch.Generator().manual_seed(0)
for problem, engine, batch in CASES:
    z = torch.randint(0, problem.cardinality, (batch, *problem.latent_shape), generator=generator)
    label = torch.ones(batch, dtype=torch.int64)
    if not isinstance(problem, (em.Sudoku, em.FactorGraph)):
        label = problem.label(z).long()
    rows.append((torch.randn(*z.shape, problem.cardinality, generator=generator), label))
torch.set_num_threads(2)
before = len(os.listdir("/proc/self/task")) - parallel._n_threads
for (problem, engine, _), (logits, label) in zip(CASES, rows):
    em.posterior(problem, logits, label, ENGINES[engine])
    now = len(os.listdir("/proc/self/task")) - parallel._n_threads
    if now > before:
        print(problem, engine)
        before = now
        break
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by Linux")
def test_torch_starts_no_threads_around_kernels() -> None:
    """A process of its own, since threads of OpenMP stay."""
    result = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert result.stdout == ""
