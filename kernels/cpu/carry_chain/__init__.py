"""Exact inference on the carry chain of addition, on CPU tensors."""

from emnesy_gpu.kernels.cpu.carry_chain.launch import (
    call_of,
    em_gradient,
    few_rows,
    map_assignment,
    map_call_of,
    posterior,
    sample,
)

__all__ = ["call_of", "em_gradient", "few_rows", "map_assignment", "map_call_of", "posterior", "sample"]
