"""Prints one line for every check: whether a posterior agrees with the reference, and the digest of its bits.

``python -m tests.robustness.processors``: in a process of its own, as Numba reads NUMBA_CPU_NAME once.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu import logic

ERRORS = {torch.float32: 1e-6, torch.float64: 1e-12}
QUICK: dict[str, Callable[[], em.Problem]] = {"sums": lambda: em.Addition(2)}
PROBLEMS: dict[str, Callable[[], em.Problem]] = QUICK | {
    "three addends": lambda: em.Addition(2, base=4, n_addends=3),
    "rule": lambda: em.rules.maximum(3, 4),
    "circuit": lambda: em.Circuit(logic.exactly(2, logic.symbols(5, 2) == 1)),
    "boards": lambda: em.Sudoku(4),
}


def rows(problem: em.Problem, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits of 21 rows, so that blocks of lanes are not full, and labels that some assignment has."""
    generator = torch.Generator().manual_seed(0)
    shape = (21, *problem.latent_shape)
    z = torch.randint(0, problem.cardinality, shape, generator=generator)
    logits = scale * torch.randn(*shape, problem.cardinality, generator=generator, dtype=torch.float64)
    return logits.to(dtype), problem.label(z)


def check(name: str, problem: em.Problem, engine: Any, scale: float, dtype: torch.dtype) -> bool:
    logits, label = rows(problem, scale, dtype)
    with em.backend("reference"):
        expected = em.posterior(problem, logits.double(), label, engine)
    found = em.posterior(problem, logits, label, engine)
    error = (found.marginals.double() - expected.marginals).abs().max().item()
    agrees = error <= ERRORS[dtype] * max(1.0, scale / 10) and found.possible.equal(expected.possible)
    bits = found.marginals.numpy().tobytes() + found.log_evidence.numpy().tobytes()
    digest = hashlib.sha256(bits).hexdigest()[:16]
    print(name, engine, scale, dtype, "agrees" if agrees else f"differs by {error}", digest)
    return agrees


def main(problems: dict[str, Callable[[], em.Problem]]) -> int:
    results = [
        check(name, make(), engine, scale, dtype)
        for name, make in problems.items()
        for engine in (em.Exact(), em.MAP())
        for scale in (1.0, 100.0)
        for dtype in ERRORS
    ]
    if problems is not QUICK:
        results.append(check("chains", em.Sudoku(4), em.Gibbs(2, 4), 1.0, torch.float32))
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main(QUICK if "--quick" in sys.argv else PROBLEMS))
