"""torch.compile(fullgraph=True) takes every engine on every problem, compiles once for all batches and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import emnesy_gpu as em
from emnesy_gpu.engines import ENGINES
from emnesy_gpu.m_step import has_em_gradient
from tests.readme_matrix import PROBLEMS, has_samples

pytestmark = pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")

SIZES = range(5, 17)
"""Batch sizes, none of which is the size of another axis of a problem by chance for all of them."""

SMALL: dict[str, Callable[[int], em.Engine]] = {
    "abc": lambda seed: em.ABC(samples=16, seed=seed),
    "gibbs": lambda seed: em.Gibbs(chains=1, sweeps=2, seed=seed),
    "rejection": lambda seed: em.Rejection(samples=16, seed=seed),
}
MORE: dict[str, em.Problem] = {
    "more values than fused samples take": em.AllDifferent([(0, 1, 2), (2, 3)], 4, 20),
    "a score of costs": em.ShortestPath(3, 3, score="cost"),
    "a circuit of clauses": em.Circuit.from_cnf("p cnf 3 2\n1 2 0\n-1 3 0\n"),
}
"""Further problems, which take other ways through the engines than those of the matrix."""

EVERY = PROBLEMS | MORE
PAIRS = [(problem, name) for problem in EVERY for name, engine in ENGINES.items() if engine().supports(EVERY[problem])]
PAIRS.remove(("more values than fused samples take", "map"))
PAIRS.remove(("more values than fused samples take", "bp"))  # of all-different factors, which take at most 16 values
FUSED = [name for name, problem in PROBLEMS.items() if has_em_gradient(problem)]
MOST_GRAPHS = 2
"""One for the first sizes and seeds, and one in which they are symbols."""


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def drawn(problem: em.Problem, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, *problem.latent_shape, problem.cardinality, generator=generator)
    label = problem.label(logits.argmax(-1))
    if isinstance(problem, em.FactorGraph) and not problem.is_tree:
        label = torch.ones_like(label)  # label 0 has an answer on trees alone
    return logits, label


def compiled(function, backend: str = "eager"):
    return torch.compile(function, fullgraph=True, backend=backend, dynamic=True)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(("name", "engine_name"), PAIRS)
def test_every_engine_compiles_on_every_problem(name: str, engine_name: str) -> None:
    problem, make = EVERY[name], SMALL.get(engine_name) or (lambda _: ENGINES[engine_name]())

    def step(logits, label, seed):
        post = em.posterior(problem, logits, label, make(seed))
        return em.em_loss(logits, post), post.marginals, *post.info.values()

    assert_compiled_once(step, problem)


@pytest.mark.parametrize("name", [name for name, problem in EVERY.items() if has_samples(problem)])
def test_exact_samples_compile_on_every_problem(name: str) -> None:
    problem = EVERY[name]
    assert_compiled_once(lambda logits, label, seed: em.sample_posterior(problem, logits, label, 2, seed), problem)


def assert_compiled_once(step: Callable[..., Any], problem: em.Problem) -> None:
    """Twelve batch sizes, each with a seed of its own, take the same graphs to the same bits."""
    fast = compiled(step)
    for batch in SIZES:
        inputs = *drawn(problem, batch), 2**40 - batch
        torch.testing.assert_close(fast(*inputs), step(*inputs), rtol=0.0, atol=0.0)
    assert graphs() <= MOST_GRAPHS


@pytest.mark.parametrize("name", FUSED)
def test_the_fused_loss_compiles_once_for_twelve_batch_sizes(name: str) -> None:
    problem = PROBLEMS[name]
    fast = compiled(lambda logits, label: em.fused_em_loss(problem, logits, label), "aot_eager")
    for batch in SIZES:
        logits, label = drawn(problem, batch)
        results = []
        for loss_of in (fast, lambda *inputs: em.fused_em_loss(problem, *inputs)):
            leaf = logits.clone().requires_grad_()
            loss = loss_of(leaf, label)
            loss.backward()
            results.append((loss.detach(), leaf.grad))
        torch.testing.assert_close(results[0], results[1])
    assert graphs() <= MOST_GRAPHS


SEEDED = {
    "abc": lambda problem, logits, label, seed: em.posterior(problem, logits, label, em.ABC(16, seed=seed)).marginals,
    "gibbs": lambda problem, logits, label, seed: (
        em.posterior(problem, logits, label, em.Gibbs(1, 2, seed=seed)).marginals
    ),
    "sample": lambda problem, logits, label, seed: em.sample_posterior(problem, logits, label, 2, seed),
}
SEEDED_PROBLEMS = [
    "`em.Addition`",
    "`em.Sudoku(4)`, `em.AllDifferent`, at most 4096 assignments",
    "`em.BlackBox`, at most 65536 assignments",
]


@pytest.mark.parametrize("kind", SEEDED)
@pytest.mark.parametrize("name", SEEDED_PROBLEMS)
def test_another_seed_compiles_nothing_anew(name: str, kind: str) -> None:
    problem = PROBLEMS[name]
    logits, label = drawn(problem, 5)
    fast = torch.compile(SEEDED[kind], fullgraph=True, backend="eager")
    for seed in range(12):
        assert torch.equal(fast(problem, logits, label, seed), SEEDED[kind](problem, logits, label, seed))
    assert graphs() <= MOST_GRAPHS


@pytest.mark.parametrize("name", ["`em.Addition`", "`em.ShortestPath`", "`em.BlackBox`, more"])
@pytest.mark.parametrize("engine", [SMALL["abc"](0), SMALL["gibbs"](0)], ids=repr)
def test_checks_of_samplers_raise_in_a_compiled_graph(name: str, engine: em.Engine) -> None:
    problem = PROBLEMS[name]
    logits, label = drawn(problem, 5)
    logits[2] = torch.nan
    fast = compiled(lambda logits, label: em.posterior(problem, logits, label, engine).marginals)
    with pytest.raises(ValueError, match=r"logits\[2.* must be finite or -inf, got nan"):
        fast(logits, label)


def test_constants_of_an_export_are_not_those_of_later_calls() -> None:
    class MostProbable(torch.nn.Module):
        def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return em.posterior(problem, logits, label, em.MAP()).marginals

    problem, label = em.Addition(1, base=7), torch.tensor([[0, 3], [1, 6]])
    logits = torch.zeros(2, 2, 1, 7)
    torch.export.export(MostProbable(), (logits, label))
    post = em.posterior(problem, logits, label, em.MAP())  # of an impossible label too
    assert post.marginals.flatten(1).sum(1).tolist() == pytest.approx([2, 2])
