"""Annealed Gibbs chains on all-different groups, on CPU tensors."""

from emnesy_gpu.kernels.cpu.gibbs.launch import few_rows, posterior

__all__ = ["few_rows", "posterior"]
