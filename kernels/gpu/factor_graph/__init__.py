"""Runs loopy belief propagation on any factor graph, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.factor_graph.launch import belief_propagation, log_joint, search

__all__ = ["belief_propagation", "log_joint", "search"]
