"""Runs annealed Gibbs chains on all-different groups, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.gibbs.launch import run

__all__ = ["run"]
