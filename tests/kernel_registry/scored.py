"""Samples and Gibbs chains on scores of every kind: counts and chains are equal to the bit."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, float64, int32

import emnesy_gpu as em
from emnesy_gpu.inference.importance import thresholds
from emnesy_gpu.kernels.score_tables import AUTOMATON, FUNCTION, LISTED, PATH, SUM, CompiledScore
from emnesy_gpu.reference.gibbs import prior
from tests.black_boxes import triton_equal_digits
from tests.factor_graphs import hard_tree
from tests.kernel_registry.entry import Entry

CPU = torch.device("cpu")


def _sum() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """Three numbers of two digits in base 3."""
    return CompiledScore(SUM, 4, (), (3, 3)), torch.randint(0, 3, (5, 4), generator=_generator()), (6, 3)


def _automaton() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """Sums modulo 3 with a label after the second and the last of four symbols; value 3 is forbidden in layer 1."""
    s, v = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    successor = torch.where(s == 3, 3, (s + v) % 3)
    forbidding = torch.where(v == 3, 3, successor)
    place = torch.tensor([[0, 2, -1], [1, 0, 0], [0, 3, -1], [1, 1, 1]], dtype=int32)
    code = torch.tensor([[4, 5, 6, -1], [0, 1, 0, -1]])
    tables = torch.stack([successor, forbidding]).to(int32), place, code
    label = torch.tensor([[4, 0], [5, -1], [6, 1], [-1, -1], [4, 1]])
    return CompiledScore(AUTOMATON, 2, tables, (4, 4)), label, (4, 4)


def _listed() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """Symbols of 3, 2 and 3 values."""
    scores = torch.randint(0, 4, (18, 5), generator=_generator())
    tables = scores, torch.tensor([3, 2, 3], dtype=int32)
    return CompiledScore(LISTED, 3, tables), torch.zeros(5, 1, dtype=torch.int64), (3, 3)


def _function() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    score = CompiledScore(FUNCTION, 3, (), (4, 3), triton_equal_digits)
    return score, torch.randint(0, 4, (5, 3), generator=_generator()), (4, 4)


def _path() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """Maps of 3x2 cells of three classes; a row has marked ends, and the label of the last one is no path."""
    problem = em.ShortestPath(3, 2, costs=(0.1, 0.2, 2.0))
    label = torch.stack([problem.label(torch.randint(0, 3, (3, 2), generator=_generator())) for _ in range(5)])
    start, goal = torch.tensor([0, 0, 1, 0, 5], dtype=int32), torch.tensor([5, 5, 4, 5, 0], dtype=int32)
    label[2, 0, 1], label[2, 2, 0], label[4] = 3, 5, 0
    score = CompiledScore(PATH, 6, (problem._integer_costs(CPU), start, goal), (3, 2), scratch=2 * 5 * 4)
    return score, label.view(5, 6).long(), (6, 3)


def _of_problem(problem: Any, label: Tensor) -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    return problem._compiled_score(label), label, (problem.latent_shape[0], problem.cardinality)


def _circuit() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """The sum after each of three symbols; some are forbidden, some entries not given, and a code does not exist."""
    rule = em.Automaton(lambda s, v: None if s == v == 2 else s + v, 0, output=lambda s: s, n_symbols=3, cardinality=3)
    label = torch.tensor([[1, 0, 3], [-1, 1, 2], [2, -1, -1], [-1, -1, -1], [77, 1, 1]])
    return _of_problem(em.Circuit.from_automaton(rule), label)


def _many_entries() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """More entries than a word has bits: the parity after every symbol."""
    rule = em.Automaton(lambda s, v: (s + v) % 2, 0, output=lambda s: s, n_symbols=35, cardinality=2)
    return _of_problem(em.Circuit.from_automaton(rule), torch.randint(-1, 2, (5, 35), generator=_generator()))


def _factors() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """Label 0 says that some factor fails."""
    return _of_problem(hard_tree(), torch.tensor([[1], [0], [-1], [1], [0]]))


def _total() -> em.Automaton:
    return em.Automaton(lambda s, v: s + v, 0, lambda s: s, n_symbols=3, cardinality=2)


def _observed_factors() -> tuple[CompiledScore, Tensor, tuple[int, int]]:
    """Parities and sums that are data, some of them not given."""
    graph = em.FactorGraph(4, 2)
    graph.add(em.factors.parity(1), (0, 1, 3))
    graph.add(em.factors.observed(em.rules.parity(2)), [(0, 1), (2, 3)])
    graph.add(em.factors.observed(_total()), (1, 2, 3))
    return _of_problem(graph, torch.tensor([[1, 0, 2], [0, -1, 3], [1, 1, -1], [0, 0, 0], [-1, -1, -1]]))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _logits(n: int, k: int) -> Tensor:
    logits = 1.5 * torch.randn(5, n, k, generator=_generator())
    logits[0, 0, 0] = float("-inf")
    return logits


def _histogram(draw: Any) -> tuple[Any, ...]:
    score, label, sizes = draw()
    return thresholds(_logits(*sizes)), label, score, 70, 7, 2**32 - 1


def _chains(draw: Any, penalised: bool = True) -> tuple[Any, ...]:
    score, label, sizes = draw()
    violated = torch.arange(score.n_constraints + 1, dtype=float64)
    factors = torch.exp(-violated * torch.tensor([0.0, 0.8, 1.6], dtype=float64)[:, None])
    return prior(_logits(*sizes), None)[0], label, factors, score, 11, 4, penalised, 7, 2**32 - 1


def _samples() -> tuple[Any, ...]:
    z = torch.randint(0, 3, (40, 5, 4), generator=_generator())
    return torch.ones(5, 3, 4, 3, dtype=torch.int64), z, z.sum(-1) % 3


def _posterior(sharpness: float, target_ess: float) -> tuple[Any, ...]:
    """The third row has no sample with a weight; scores 0 have the weight 0."""
    counts = (
        torch.randint(0, 40, (5, 6, 1, 3), generator=_generator()) * torch.tensor([1, 1, 1, 1, 0, 1])[:, None, None]
    )
    counts[2, 1:] = 0
    histogram = torch.cat([counts, counts.flip(-1), counts], 2)
    exponents = (torch.arange(6.0, dtype=float64) / 5).log()
    return _logits(3, 3), histogram, exponents, 200, sharpness, target_ess


def _entry(function: str, name: str, draw: Any, **options: Any) -> Entry:
    return Entry("scored", function, name, draw, **options)


ENTRIES = [
    _entry("histogram", "sum", partial(_histogram, _sum), variants=True),
    _entry("histogram", "automaton", partial(_histogram, _automaton), every_target=True),
    _entry("histogram", "listed", partial(_histogram, _listed), slow=True),
    _entry("histogram", "circuit", partial(_histogram, _circuit), every_target=True),
    _entry("histogram", "circuit, 35 entries", partial(_histogram, _many_entries), interpreted=False, slow=True),
    _entry("histogram", "factors", partial(_histogram, _factors), every_target=True),
    _entry("histogram", "factors with labels", partial(_histogram, _observed_factors), interpreted=False),
    _entry("add_to_histogram", "40 samples", _samples, every_target=True, n_row_arguments=1),
    _entry("run_chains", "sum", partial(_chains, _sum), variants=True),
    _entry("run_chains", "automaton", partial(_chains, _automaton), every_target=True),
    _entry("run_chains", "listed", partial(_chains, _listed), interpreted=False),
    _entry("run_chains", "function", partial(_chains, _function), interpreted=False, slow=True),
    _entry("run_chains", "sum, no penalty", partial(_chains, _sum, False), slow=True),
    _entry("run_chains", "path", partial(_chains, _path), interpreted=False, every_target=True),
    _entry("run_chains", "circuit", partial(_chains, _circuit), interpreted=False, every_target=True),
    _entry("run_chains", "factors", partial(_chains, _factors), interpreted=False, every_target=True),
    _entry("weighted_posterior", "sharpness 3", partial(_posterior, 3.0, 0.0), variants=True),
    _entry("weighted_posterior", "target ESS", partial(_posterior, 1.0, 60.0), every_target=True),
]
