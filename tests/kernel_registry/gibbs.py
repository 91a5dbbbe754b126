"""Gibbs chains: the chains are equal to the bit, the marginals up to the order of additions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import emnesy_gpu as em
from emnesy_gpu.inference.annealing import annealed_factors
from emnesy_gpu.reference.gibbs import prior
from tests.kernel_registry.entry import Entry

CPU = torch.device("cpu")


def _run(problem: em.AllDifferent, chains: int, sweeps: int, batch: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(batch, problem.n_variables, problem.cardinality, generator=generator)
    logits[0, 0, 0] = float("-inf")
    tables = problem._score_tables_on(CPU)
    recorded = sweeps - sweeps // 2
    factors = annealed_factors(sweeps, max(sweeps // 2, 1), 2.0, tables.most_conflicts, CPU)
    return prior(logits, None)[0], factors, tables.memberships, tables.n_groups, chains, recorded, 7, 2**32 - 1


def _entry(name: str, problem: em.AllDifferent, chains: int, sweeps: int, batch: int, **options: Any) -> Entry:
    draw = partial(_run, problem, chains, sweeps, batch)
    return Entry("gibbs", "run", name, draw, n_row_arguments=1, **options)


def _prior() -> tuple[Any, ...]:
    """Rows with NaN, +inf and no finite logit are broken, and the last one has an invalid label."""
    logits = 3.0 * torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))
    logits[0, 0] = torch.tensor([0.0, -39.9, -40.1])
    logits[1, 0, 0], logits[2, 4, 1], logits[3, 1] = float("nan"), float("inf"), float("-inf")
    logits[4, 0, 1:] = float("-inf")
    return logits, torch.tensor([1, 1, 0, 1, 0, 2])


def _results(integers: bool) -> tuple[Any, ...]:
    """Two rows are broken; the sums of chains on scores are integers, and those rows have no status."""
    generator = torch.Generator().manual_seed(0)
    logits, sums = torch.randn(6, 5, 3, generator=generator), 1.0 + torch.rand(6, 5, 3, generator=generator)
    annealing = torch.randint(0, 300, (6, 140), generator=generator)
    final = torch.randint(0, 2, (6, 140), generator=generator)
    if integers:
        return logits, (sums * 2**31).long(), annealing, final, 0.3, None
    return logits, sums, annealing, final, 0.3, torch.tensor([0, 2, 0, 0, 3, 0], dtype=torch.uint8)


_GROUPS = em.AllDifferent([(0, 1, 2), (2, 3), (1, 3, 4)], n_variables=6, cardinality=3)

ENTRIES = [
    _entry("small groups", _GROUPS, 3, 4, batch=11, variants=True),
    Entry("gibbs", "prior", "broken rows", _prior, every_target=True),
    Entry("gibbs", "results", "groups", partial(_results, False), every_target=True),
    Entry("gibbs", "results", "scores", partial(_results, True)),
    _entry("small groups, 40 chains", _GROUPS, 40, 2, batch=2, slow=True),
    _entry("9x9, 8 chains of 4 sweeps", em.Sudoku(9), 8, 4, batch=4, slow=True, interpreted=False),
]
