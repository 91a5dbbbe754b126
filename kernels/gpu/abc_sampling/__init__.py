"""Weighs samples from the prior, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.abc_sampling.launch import draw, weigh

__all__ = ["draw", "weigh"]
