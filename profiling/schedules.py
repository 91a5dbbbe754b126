"""Sweeps until belief propagation converges, by the schedule, on grids of spins with strong couplings.

    python -m profiling.schedules [rows]

Each row is a grid of 10 x 10 spins in a field of its own, uniform in [-1, 1] for both spins. A pair of neighbours has
the weight exp(+-J) where it is alike and unlike, with one J in [-C, C] for each pair: C is the strength. A sweep renews
each factor once on average. A row has converged once nothing changes by 0.001, within 200 sweeps.
"""

from __future__ import annotations

import sys

import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks.factor_graph import grid

SIDE, MOST_SWEEPS, TOLERANCE = 10, 200, 1e-3
STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0)
ENGINES = {
    "serial": em.BeliefPropagation(MOST_SWEEPS, tolerance=TOLERANCE),
    "flooding": em.BeliefPropagation(MOST_SWEEPS, schedule="flooding", tolerance=TOLERANCE),
    "flooding, damping 0.5": em.BeliefPropagation(MOST_SWEEPS, 0.5, "flooding", tolerance=TOLERANCE),
    "residual": em.BeliefPropagation(MOST_SWEEPS, schedule="residual", tolerance=TOLERANCE),
}


def spins(side: int, strength: float, seed: int = 0) -> em.FactorGraph:
    """A grid with a coupling of its own for each pair of neighbours."""
    scopes = grid(side, 2).factors.scopes
    couplings = strength * (2.0 * torch.rand(len(scopes), generator=torch.Generator().manual_seed(seed)) - 1.0)
    graph = em.FactorGraph(side * side, 2)
    weights = (couplings[:, None, None] * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).exp()
    graph.add([em.factors.table(weight) for weight in weights], scopes.numpy())
    return graph


def fields(side: int, rows: int, seed: int = 1) -> torch.Tensor:
    """Logits [rows, side^2, 2]."""
    field = 2.0 * torch.rand(rows, side * side, generator=torch.Generator().manual_seed(seed)) - 1.0
    return torch.stack([field, -field], -1)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    logits, label = fields(SIDE, rows), torch.ones(rows, dtype=torch.int64)
    print("| strength | schedule | rows that converge | median sweeps of these |\n|---|---|---|---|")
    for strength in STRENGTHS:
        graph = spins(SIDE, strength)
        for name, engine in ENGINES.items():
            info = em.posterior(graph, logits, label, engine).info
            done = info["converged"]
            median = f"{info['iterations'][done].median()}" if done.any() else "-"
            print(f"| {strength} | {name} | {done.float().mean():.2f} | {median} |", flush=True)


if __name__ == "__main__":
    main()
