"""Symbolic components: what the hidden symbols are and how a label depends on them."""

from emnesy_gpu.problems.addition import Addition
from emnesy_gpu.problems.all_different import AllDifferent
from emnesy_gpu.problems.problem import (
    Beliefs,
    LoopySettings,
    MapAssignment,
    Marginals,
    Problem,
    UnsupportedInference,
)
from emnesy_gpu.problems.sudoku import Sudoku

__all__ = [
    "Addition",
    "AllDifferent",
    "Beliefs",
    "LoopySettings",
    "MapAssignment",
    "Marginals",
    "Problem",
    "Sudoku",
    "UnsupportedInference",
]
