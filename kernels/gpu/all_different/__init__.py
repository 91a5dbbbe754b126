"""Runs loopy belief propagation with all-different factors, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.all_different.launch import belief_propagation, decimate, posterior

__all__ = ["belief_propagation", "decimate", "posterior"]
