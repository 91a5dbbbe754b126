"""Exact inference on a circuit, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.circuit.launch import (
    em_gradient,
    map_assignment,
    posterior,
    predict,
    replace_rows,
    sample,
    truth,
)

__all__ = ["em_gradient", "map_assignment", "posterior", "predict", "replace_rows", "sample", "truth"]
