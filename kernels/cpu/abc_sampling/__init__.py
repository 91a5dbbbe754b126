"""Posteriors by weighted samples of the prior, on CPU tensors."""

from emnesy_gpu.kernels.cpu.abc_sampling.launch import draw, posterior

__all__ = ["draw", "posterior"]
