"""Exact inference on an automaton, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.automaton.launch import em_gradient, map_assignment, posterior, sample

__all__ = ["em_gradient", "map_assignment", "posterior", "sample"]
