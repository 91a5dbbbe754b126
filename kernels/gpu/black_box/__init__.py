"""Counts samples by a score of the user, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.black_box.launch import histogram

__all__ = ["histogram"]
