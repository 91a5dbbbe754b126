"""Exact inference over a list of the valid assignments, on CPU tensors."""

from emnesy_gpu.kernels.cpu.enumeration.launch import em_gradient, few_rows, map_assignment, posterior, sample

__all__ = ["em_gradient", "few_rows", "map_assignment", "posterior", "sample"]
