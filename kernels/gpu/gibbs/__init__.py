"""Runs annealed Gibbs chains on all-different groups, on CUDA tensors, and computes what all chains need."""

from emnesy_gpu.kernels.gpu.gibbs.launch import posterior, prior, results, run

__all__ = ["posterior", "prior", "results", "run"]
