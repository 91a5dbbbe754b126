"""Runs exact inference on the carry chain of addition, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.carry_chain.launch import em_gradient, map_assignment, posterior, sample

__all__ = ["em_gradient", "map_assignment", "posterior", "sample"]
