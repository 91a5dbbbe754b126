"""Problems, the symbolic components: they define the hidden symbols and how a label depends on them."""

import torch

from emnesy_gpu.automata.machine import Layer, Machine, Observation
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.tables import Compiled
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.factor_graphs.observed import Entry
from emnesy_gpu.factor_graphs.potentials import Layers, Observed, Parity, Table
from emnesy_gpu.inference.results import Beliefs, Chains, MapAssignment, Marginals, Weighted
from emnesy_gpu.kernels import automaton_tables, circuit_tables, factor_graph_tables, score_tables
from emnesy_gpu.problems.addition import Addition
from emnesy_gpu.problems.all_different import AllDifferent
from emnesy_gpu.problems.automaton import Automaton
from emnesy_gpu.problems.black_box import BlackBox
from emnesy_gpu.problems.choice import compile_rule
from emnesy_gpu.problems.circuit import Circuit
from emnesy_gpu.problems.factor_graph import FactorGraph
from emnesy_gpu.problems.finite_state import ReadingOrder
from emnesy_gpu.problems.problem import Problem
from emnesy_gpu.problems.shortest_path import ShortestPath
from emnesy_gpu.problems.simple_paths import SimplePaths
from emnesy_gpu.problems.sudoku import Sudoku

# A checkpoint may hold problems: those that are made of plain settings, and others with what they are made of.
torch.serialization.add_safe_globals([Addition, AllDifferent, BlackBox, ShortestPath, SimplePaths, Sudoku])
torch.serialization.add_safe_globals([Automaton, Machine, Layer, Observation, ReadingOrder])
torch.serialization.add_safe_globals([Circuit, Graph, Compiled])
torch.serialization.add_safe_globals([FactorGraph, Table, Layers, Parity, Entry, Observed])
torch.serialization.add_safe_globals(
    [
        automaton_tables.AutomatonTables,
        circuit_tables.CircuitTables,
        factor_graph_tables.Compiled,
        factor_graph_tables.FactorGraphTables,
        factor_graph_tables.LabelDigits,
        score_tables.CompiledScore,
    ]
)

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
