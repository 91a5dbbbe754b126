"""Loopy belief propagation with all-different factors, on CPU tensors."""

from emnesy_gpu.kernels.cpu.all_different.launch import belief_propagation, few_beliefs

__all__ = ["belief_propagation", "few_beliefs"]
