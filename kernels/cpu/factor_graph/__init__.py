"""Loopy belief propagation on factor graphs, on CPU tensors."""

from emnesy_gpu.kernels.cpu.factor_graph.launch import belief_propagation, call_of_few_rows, few_beliefs, few_rows

__all__ = ["belief_propagation", "call_of_few_rows", "few_beliefs", "few_rows"]
