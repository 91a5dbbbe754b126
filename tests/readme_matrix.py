"""The problem x engine matrix of the README, from what the problems say they support.

python -m tests.readme_matrix prints it.
"""

from __future__ import annotations

import torch

import emnesy_gpu as em
from emnesy_gpu.engines import ENGINES, choose_engine


def _sum(z: torch.Tensor) -> torch.Tensor:
    return z.sum(-1)


PROBLEMS: dict[str, em.Problem] = {
    "`em.Addition`": em.Addition(4),
    "`em.Sudoku(4)`": em.Sudoku(4),
    "`em.Sudoku(9)`, `em.Sudoku(16)`": em.Sudoku(9),
    "`em.AllDifferent`, at most 4096 valid assignments": em.AllDifferent([(0, 1, 2)], 3, 3),
    "`em.AllDifferent`, more": em.AllDifferent([(i, i + 1) for i in range(8)], 9, 4),
    "`em.ShortestPath`": em.ShortestPath(3, 3),
    "`em.BlackBox`, at most 65536 assignments": em.BlackBox(label=_sum, latent_shape=(2,), cardinality=3),
    "`em.BlackBox`, more": em.BlackBox(label=_sum, latent_shape=(9,), cardinality=10),
}
OTHERS = {"exact samples": "sample", "fused EM loss": "em_gradient"}


def matrix() -> str:
    """A Markdown table; "default" marks the engine that ``engine=None`` takes."""
    columns = [f"`em.{engine.__name__}`" for engine in ENGINES] + list(OTHERS)
    lines = ["| problem | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, problem in PROBLEMS.items():
        default = type(choose_engine(problem, None))
        cells = [_cell(problem, engine.inference, engine is default) for engine in ENGINES]
        cells += [_cell(problem, inference, False) for inference in OTHERS.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(problem: em.Problem, inference: str, default: bool) -> str:
    if not problem.supports(inference):
        return "-"
    return "default" if default else "yes"


if __name__ == "__main__":
    print(matrix())
