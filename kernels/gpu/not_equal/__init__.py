"""Runs loopy belief propagation with pairwise not-equal factors, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.not_equal.launch import belief_propagation, posterior

__all__ = ["belief_propagation", "posterior"]
