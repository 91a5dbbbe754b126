"""Weighted samples from the prior: groups, pairs and per-symbol scores of Sudoku. Counts and sums are integers."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch

import emnesy_gpu as em
from emnesy_gpu.inference.importance import thresholds
from tests.kernel_registry.entry import Entry

CPU = torch.device("cpu")


def _weigh(problem: em.AllDifferent, local: bool, n_samples: int, batch: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    n = problem.n_variables
    logits = 2.0 * torch.randn(batch, n, problem.cardinality, generator=generator)
    logits[0, 0, 0] = float("-inf")
    tables = problem._score_tables_on(CPU)
    incident = tables.incident if local else tables.incident[:1, :0]
    width = incident.shape[1] + 2 if local else len(tables.members) + 1
    weights = torch.randint(0, 1 << 24, (batch, len(incident), width), generator=generator, dtype=torch.int32)
    work = torch.tensor([2, 1, 0], dtype=torch.uint8)[:batch]
    return thresholds(logits), weights, work, tables.members, incident, n_samples, 7, 2**32 - 1, 3


def _entry(name: str, problem: em.AllDifferent, local: bool, n_samples: int, batch: int = 3, **options: Any) -> Entry:
    return Entry(
        "abc_sampling", "weigh", name, partial(_weigh, problem, local, n_samples, batch), n_row_arguments=3, **options
    )


def _draw() -> tuple[Any, ...]:
    return _weigh(_GROUPS, False, 1, 3)[0], 140, 7, 2**32 - 1, 3


def _posterior(weighting: str, local: bool, plan: Plan) -> tuple[Any, ...]:
    logits = 2.0 * torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))
    logits[0, 0, 0] = float("-inf")
    tables = _GROUPS._score_tables_on(CPU)
    exponents = tables.exponents[weighting, local].values
    incident = tables.incident if local else tables.incident[:1, :0]
    return logits, torch.tensor([1, 0, 1, 1, 2]), exponents, (tables.members, incident), plan, 7, 2**32 - 1


def _entry_of(name: str, *arguments: Any) -> Entry:
    return Entry("abc_sampling", "posterior", name, partial(_posterior, *arguments), every_target=True)


def _thresholds() -> tuple[Any, ...]:
    """A hard zero, and a symbol without a prior."""
    logits = 2.0 * torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))
    logits[0, 0, 0], logits[1, 2] = float("-inf"), float("-inf")
    return (logits,)


class Plan(NamedTuple):
    """As ``emnesy_gpu.kernels.gpu.abc_sampling.Plan``, which needs Triton."""

    n_samples: int
    pilot: int
    sharpness: float
    target_ess: float


_GROUPS = em.AllDifferent([(0, 1, 2), (2, 3), (1, 3, 4)], n_variables=6, cardinality=3)

ENTRIES = [
    Entry("abc_sampling", "thresholds", "5 rows", _thresholds, every_target=True, n_row_arguments=1),
    Entry("abc_sampling", "draw", "140 samples", _draw, variants=True, n_row_arguments=1),
    _entry("small groups", _GROUPS, False, 140, variants=True, many_rows=True),
    _entry("small groups local", _GROUPS, True, 70, variants=True),
    _entry_of("small groups", "fraction", False, Plan(70, 0, 1.0, 0.0)),
    _entry_of("small groups, sharp", "exponential", False, Plan(70, 32, 20.0, 0.0)),
    _entry_of("small groups local, target ESS", "fraction", True, Plan(70, 0, 1.0, 20.0)),
    _entry("4x4 pairs", em.Sudoku(4, constraints="pairs"), False, 130, slow=True),
    _entry("4x4 pairs local", em.Sudoku(4, constraints="pairs"), True, 130, slow=True),
    _entry("9x9 groups, 1024 samples", em.Sudoku(9), False, 1024, batch=1, slow=True, interpreted=False),
    _entry("9x9 pairs", em.Sudoku(9, constraints="pairs"), False, 128, batch=1, slow=True, interpreted=False),
]
