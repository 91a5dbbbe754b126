"""Gibbs chains: the chains are equal to the bit, the marginals up to the order of additions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import emnesy_gpu as em
from emnesy_gpu.inference.annealing import annealed_factors, relative_prior
from tests.kernel_registry.entry import Entry

CPU = torch.device("cpu")


def _run(problem: em.AllDifferent, chains: int, sweeps: int, batch: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(batch, problem.n_variables, problem.cardinality, generator=generator)
    logits[0, 0, 0] = float("-inf")
    tables = problem._score_tables_on(CPU)
    recorded = sweeps - sweeps // 2
    factors = annealed_factors(sweeps, max(sweeps // 2, 1), 2.0, tables.most_conflicts, CPU)
    return relative_prior(logits), factors, tables.memberships, tables.n_groups, chains, recorded, 7, 2**32 - 1


def _entry(name: str, problem: em.AllDifferent, chains: int, sweeps: int, batch: int, **options: Any) -> Entry:
    draw = partial(_run, problem, chains, sweeps, batch)
    return Entry("gibbs", "run", name, draw, n_row_arguments=1, **options)


_GROUPS = em.AllDifferent([(0, 1, 2), (2, 3), (1, 3, 4)], n_variables=6, cardinality=3)

ENTRIES = [
    _entry("small groups", _GROUPS, 3, 4, batch=11, variants=True),
    _entry("small groups, 40 chains", _GROUPS, 40, 2, batch=2, slow=True),
    _entry("9x9, 8 chains of 4 sweeps", em.Sudoku(9), 8, 4, batch=4, slow=True, interpreted=False),
]
