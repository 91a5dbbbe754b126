"""Symbolic components: what the hidden symbols are and how a label depends on them."""

from emnesy_gpu.problems.addition import Addition
from emnesy_gpu.problems.problem import MapAssignment, Marginals, Problem, UnsupportedInference

__all__ = ["Addition", "MapAssignment", "Marginals", "Problem", "UnsupportedInference"]
