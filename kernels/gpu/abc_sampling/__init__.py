"""Weighs samples from the prior, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.abc_sampling.launch import draw, thresholds, weigh
from emnesy_gpu.kernels.gpu.abc_sampling.posterior import Plan, posterior

__all__ = ["Plan", "draw", "posterior", "thresholds", "weigh"]
