"""Runs exact inference over a list of the valid assignments, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.enumeration.launch import em_gradient, map_assignment, posterior, sample

__all__ = ["em_gradient", "map_assignment", "posterior", "sample"]
