"""Exact inference on finite automata, on CPU tensors."""

from emnesy_gpu.kernels.cpu.automaton.addressed import call_of
from emnesy_gpu.kernels.cpu.automaton.launch import (
    em_gradient,
    few_rows,
    map_assignment,
    map_call_of,
    posterior,
    sample,
)

__all__ = ["call_of", "em_gradient", "few_rows", "map_assignment", "map_call_of", "posterior", "sample"]
