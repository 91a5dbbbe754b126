"""Exact inference on the carry chain of addition, on CPU tensors."""

from emnesy_gpu.kernels.cpu.carry_chain.launch import em_gradient, few_rows, map_assignment, posterior, sample

__all__ = ["em_gradient", "few_rows", "map_assignment", "posterior", "sample"]
