"""Loopy belief propagation with pairwise not-equal factors, on CPU tensors."""

from emnesy_gpu.kernels.cpu.not_equal.launch import belief_propagation

__all__ = ["belief_propagation"]
