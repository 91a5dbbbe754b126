"""Symbolic components: what the hidden symbols are and how a label depends on them."""

from emnesy_gpu.problems.addition import Addition
from emnesy_gpu.problems.all_different import AllDifferent
from emnesy_gpu.problems.black_box import BlackBox
from emnesy_gpu.problems.problem import (
    Beliefs,
    Chains,
    GibbsSettings,
    LoopySettings,
    MapAssignment,
    Marginals,
    Problem,
    SamplingSettings,
    UnsupportedInference,
    Weighted,
)
from emnesy_gpu.problems.shortest_path import ShortestPath
from emnesy_gpu.problems.sudoku import Sudoku

__all__ = [
    "Addition",
    "AllDifferent",
    "Beliefs",
    "BlackBox",
    "Chains",
    "GibbsSettings",
    "LoopySettings",
    "MapAssignment",
    "Marginals",
    "Problem",
    "SamplingSettings",
    "ShortestPath",
    "Sudoku",
    "UnsupportedInference",
    "Weighted",
]
