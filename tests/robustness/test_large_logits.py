"""Finite logits beyond +-1e12 count as +-1e12 in every op and dtype, on CPUs and in the reference."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.kernels.logits import LARGEST_LOGIT
from emnesy_gpu.ops.registry import bounded
from tests.test_ops import ALL, arguments

LARGE = {torch.float32: (1.01e12, 3e38), torch.float64: (1.01e12, 1e308)}
WITH_LOGITS = sorted(set(ALL) - {"circuit_truth", "grid_paths_shortest_path"})
SMALL = {
    "carry chain": em.Addition(1, base=3),
    "three addends": em.Addition(1, base=3, n_addends=3),
    "automaton": em.rules.parity(3),
    "circuit": em.Circuit(em.logic.exactly(2, em.logic.symbols(4, 2) == 1)),
    "enumeration": em.AllDifferent([(0, 1, 2)], 3, 3),
}


def large(logits: Tensor, size: float) -> Tensor:
    """Some of the largest logits of a symbol become as large; of the others half become as small, in the last row all.

    So labels are possible by assignments that a net all but excludes, and by no other.
    """
    generator = torch.Generator().manual_seed(1)
    shares = torch.linspace(0.5, 1.0, len(logits)).view(-1, *[1] * (logits.ndim - 1))
    away = torch.rand(logits.shape, generator=generator) < shares
    best = torch.zeros_like(away).scatter(-1, logits.argmax(-1, keepdim=True), True)
    towards = best & (torch.rand(logits.shape, generator=generator) < 0.5)
    return torch.where(away & ~best, -size, logits).masked_fill(towards, size)


def call(op: str, logits: Tensor, rest: tuple[Any, ...]) -> tuple[Tensor, ...]:
    results = getattr(torch.ops.emnesy_gpu, op)(logits, *rest)
    return (results,) if isinstance(results, Tensor) else tuple(results)


@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("op", WITH_LOGITS)
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_larger_logits_count_as_the_largest(name: str, op: str, dtype: torch.dtype) -> None:
    logits, *rest = arguments(op, dtype)
    with em.backend(name):
        expected = call(op, large(logits, LARGEST_LOGIT), tuple(rest))
        for size in LARGE[dtype]:
            for part, other in zip(call(op, large(logits, size), tuple(rest)), expected, strict=True):
                assert part.equal(other), size


def assignments(problem: em.Problem) -> Tensor:
    n = torch.Size(problem.latent_shape).numel()
    return torch.tensor(list(itertools.product(range(problem.cardinality), repeat=n))).view(-1, *problem.latent_shape)


def oracle(problem: em.Problem, logits: Tensor, z: Tensor, labels: Tensor) -> Tensor:
    """log p(z, label) float64 [batch, assignments] of all assignments, by the rule."""
    log_prior = torch.log_softmax(logits.double().clamp(-LARGEST_LOGIT, LARGEST_LOGIT), -1)
    log_p = (
        log_prior[:, None]
        .expand(-1, len(z), *log_prior.shape[1:])
        .gather(-1, z[None, ..., None].expand(len(logits), *z.shape, 1))
    )
    same = (problem.label(z)[None] == labels[:, None]).view(len(labels), len(z), -1).all(-1)
    return log_p.flatten(2).sum(2).masked_fill(~same, -torch.inf)


def contradicted(problem: em.Problem, size: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits that are -size but for one value of each symbol, and a row for the label of every assignment."""
    z = assignments(problem)
    noise = torch.randn(1, *z.shape[1:], problem.cardinality, generator=torch.Generator().manual_seed(2))
    logits = torch.where(noise < noise.amax(-1, keepdim=True), -size, noise).to(dtype)
    return logits.expand(len(z), *noise.shape[1:]), problem.label(z)


@pytest.mark.parametrize("size", [1e11, LARGEST_LOGIT, 1e20, 1e30])
@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("run", ["reference", "cpu"])
def test_every_label_of_an_assignment_is_possible(run: str, name: str, size: float, dtype: torch.dtype) -> None:
    problem = SMALL[name]
    logits, labels = contradicted(problem, size, dtype)
    log_p = oracle(problem, logits, assignments(problem), labels)
    for engine, expected in ((em.Exact(), log_p.logsumexp(1)), (em.MAP(), log_p.amax(1))):
        with em.backend(run):
            post = em.posterior(problem, logits, labels, engine)
        assert post.possible.all()
        torch.testing.assert_close(post.log_evidence.double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("engine", [em.Exact(), em.MAP()], ids=repr)
def test_what_all_values_of_a_symbol_have_in_common_costs_no_digits(engine: em.Engine, name: str) -> None:
    """The sum of logits of 2^20 is rounded to 1 / 4 in float32; the evidence has none of it."""
    problem = SMALL[name]
    z = assignments(problem)
    noise = torch.randn(len(z), *z.shape[1:], problem.cardinality, generator=torch.Generator().manual_seed(3))
    logits, labels = noise + 2.0**20, problem.label(z)
    log_p = oracle(problem, logits, z, labels)
    expected = log_p.amax(1) if isinstance(engine, em.MAP) else log_p.logsumexp(1)
    post = em.posterior(problem, logits, labels, engine)
    torch.testing.assert_close(post.log_evidence.double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_only_logits_with_large_ones_are_copied(name: str, dtype: torch.dtype, strided: bool) -> None:
    inf = float("inf")
    harmless = torch.tensor([[0.0, -inf, inf, float("nan"), -LARGEST_LOGIT, LARGEST_LOGIT, 1.0]] * 40, dtype=dtype)
    large = torch.cat([harmless, torch.tensor([[1.01e12] * 7], dtype=dtype)])
    with em.backend(name):
        for logits in (harmless, large):
            given = torch.stack([logits, logits], 1)[:, 0] if strided else logits
            found = bounded(given)
            if dtype != torch.bfloat16:  # has no number between 0.9995e12 and 1.0007e12
                assert (found is given) == (logits is harmless)
            torch.testing.assert_close(found[:40], harmless, equal_nan=True)
            assert found[40:].eq(torch.tensor(LARGEST_LOGIT, dtype=dtype)).all()


SUMS = {f"sum of {k} values": em.Automaton(lambda s, v: (s + v) % 5, 0, lambda s: s, 3, k) for k in (2, 3, 4)}


@pytest.mark.parametrize("batch", [5, 3000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, *LARGE])
@pytest.mark.parametrize("name", ["automaton", "circuit", *SUMS])
def test_large_logits_of_one_symbol_are_equal_to_each_other(name: str, dtype: torch.dtype, batch: int) -> None:
    """Also where its largest one is among them, or where all are: their exponentials are 1 then."""
    problem, generator, results = (SMALL | SUMS)[name], torch.Generator().manual_seed(4), []
    sizes = torch.tensor([1.0, 0.9995, 1.01, 1e20]) * LARGEST_LOGIT
    values = torch.cat([sizes, -sizes, torch.tensor([-torch.inf, 0.0, 1.0])]).to(dtype)
    shape = batch, *problem.latent_shape, problem.cardinality
    logits = values[torch.randint(len(values), shape, generator=generator)]
    logits[..., 0] = logits[..., 0].masked_fill(logits.isneginf().all(-1), 0.0)
    labels = problem.label(torch.randint(problem.cardinality, (batch, *problem.latent_shape), generator=generator))
    counted = bounded(logits)
    assert not counted.equal(logits)
    with em.backend("cpu"):
        for given in (logits, counted):
            post = em.posterior(problem, given, labels)
            results.append(
                (post.marginals, post.log_evidence, post.possible, *problem.em_gradient(given, labels, 1.0, True))
            )
    for part, other in zip(*results, strict=True):
        assert part.equal(other)
