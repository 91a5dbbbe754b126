"""Annealed Gibbs chains on all-different groups, on CPU tensors."""

from emnesy_gpu.kernels.cpu.gibbs.launch import posterior

__all__ = ["posterior"]
