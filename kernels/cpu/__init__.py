"""Numba kernels: the same launch functions as ``kernels.gpu``, for CPU tensors."""
