"""Weighs samples from the prior, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.abc_sampling.launch import draw, weigh
from emnesy_gpu.kernels.gpu.abc_sampling.posterior import Plan, posterior

__all__ = ["Plan", "draw", "posterior", "weigh"]
