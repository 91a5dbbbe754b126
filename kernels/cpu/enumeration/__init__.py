"""Exact inference over a list of the valid assignments, on CPU tensors."""

from emnesy_gpu.kernels.cpu.enumeration.launch import map_assignment, posterior, sample

__all__ = ["map_assignment", "posterior", "sample"]
