"""Triton kernels: the same launch functions as ``kernels.cpu``, for CUDA tensors."""
