"""Exact inference on circuits of sums and products, on CPU tensors."""

from emnesy_gpu.kernels.cpu.circuit.addressed import call_of, map_call_of
from emnesy_gpu.kernels.cpu.circuit.launch import (
    em_gradient,
    few_rows,
    map_assignment,
    map_few_rows,
    posterior,
    predict,
    sample,
    truth,
)

__all__ = [
    "call_of",
    "em_gradient",
    "few_rows",
    "map_assignment",
    "map_call_of",
    "map_few_rows",
    "posterior",
    "predict",
    "sample",
    "truth",
]
