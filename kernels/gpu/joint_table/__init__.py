"""Runs exact inference over the table of all assignments, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.joint_table.launch import em_gradient, map_assignment, posterior, sample

__all__ = ["em_gradient", "map_assignment", "posterior", "sample"]
