"""Problems, the symbolic components: they define the hidden symbols and how a label depends on them."""

import torch

from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference.results import Beliefs, Chains, MapAssignment, Marginals, Weighted
from emnesy_gpu.problems.addition import Addition
from emnesy_gpu.problems.all_different import AllDifferent
from emnesy_gpu.problems.automaton import Automaton
from emnesy_gpu.problems.black_box import BlackBox
from emnesy_gpu.problems.choice import compile_rule
from emnesy_gpu.problems.circuit import Circuit
from emnesy_gpu.problems.factor_graph import FactorGraph
from emnesy_gpu.problems.problem import Problem
from emnesy_gpu.problems.shortest_path import ShortestPath
from emnesy_gpu.problems.simple_paths import SimplePaths
from emnesy_gpu.problems.sudoku import Sudoku

# A checkpoint may hold those that are made of plain settings.
torch.serialization.add_safe_globals([Addition, AllDifferent, ShortestPath, SimplePaths, Sudoku])

__all__ = [
    "Addition",
    "AllDifferent",
    "Automaton",
    "Beliefs",
    "BlackBox",
    "Chains",
    "Circuit",
    "FactorGraph",
    "MapAssignment",
    "Marginals",
    "Problem",
    "ShortestPath",
    "SimplePaths",
    "Sudoku",
    "UnsupportedInference",
    "Weighted",
    "compile_rule",
]
