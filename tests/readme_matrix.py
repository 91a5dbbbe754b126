"""The problem x engine matrix of the README, from what engines ask of problems.

python -m tests.readme_matrix prints it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

import emnesy_gpu as em
from emnesy_gpu.e_step import SampledProblem
from emnesy_gpu.engines import ENGINES, choose_engine
from emnesy_gpu.m_step import has_em_gradient


def _sum(z: torch.Tensor) -> torch.Tensor:
    return z.sum(-1)


def _graph(*edges: tuple[int, int]) -> em.FactorGraph:
    graph = em.FactorGraph(3, 2)
    graph.add(em.factors.not_equal(), edges)
    return graph


PROBLEMS: dict[str, em.Problem] = {
    "`em.Addition`": em.Addition(4),
    "`em.Sudoku(4)`, `em.AllDifferent`, at most 4096 assignments": em.AllDifferent([(0, 1, 2)], 3, 3),
    "`em.AllDifferent` with more, `em.Sudoku(9)`": em.AllDifferent([(i, i + 1) for i in range(8)], 9, 4),
    "`em.ShortestPath`": em.ShortestPath(3, 3),
    "`em.Automaton`, `em.rules`": em.rules.parity(3),
    "`em.Circuit`, `em.SimplePaths`": em.SimplePaths(2, 2),
    "`em.FactorGraph`, a tree": _graph((0, 1), (1, 2)),
    "`em.FactorGraph`, with cycles": _graph((0, 1), (1, 2), (2, 0)),
    "`em.BlackBox`, at most 65536 assignments": em.BlackBox(label=_sum, latent_shape=(2,), cardinality=3),
    "`em.BlackBox`, more": em.BlackBox(label=_sum, latent_shape=(9,), cardinality=10),
}


def has_samples(problem: em.Problem) -> bool:
    return issubclass(type(problem), SampledProblem) and problem.tractable


OTHERS: dict[str, Callable[[em.Problem], bool]] = {"exact samples": has_samples, "fused EM loss": has_em_gradient}
"""Heading -> whether the function takes a problem."""


def matrix() -> str:
    """A Markdown table; "default" marks the engine that ``engine=None`` takes."""
    engines = [engine() for engine in ENGINES.values()]
    columns = [f"`em.{type(engine).__name__}`" for engine in engines] + list(OTHERS)
    lines = ["| problem | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, problem in PROBLEMS.items():
        cells = [_cell(problem, engine) for engine in engines]
        cells += ["yes" if takes(problem) else "-" for takes in OTHERS.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(problem: em.Problem, engine: em.Engine) -> str:
    if not engine.supports(problem):
        return "-"
    return "default" if type(engine) is type(choose_engine(problem, None)) else "yes"


if __name__ == "__main__":
    print(matrix())
