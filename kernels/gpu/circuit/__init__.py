"""Exact inference on a circuit, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.circuit.launch import em_gradient, posterior, predict

__all__ = ["em_gradient", "posterior", "predict"]
