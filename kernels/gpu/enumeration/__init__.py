"""Runs exact inference over a list of the valid assignments, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.enumeration.launch import map_assignment, posterior, sample

__all__ = ["map_assignment", "posterior", "sample"]
