"""Posteriors given the label, from those given label 1, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.given_label.launch import given_label, map_given_label, posterior, replace_rows

__all__ = ["given_label", "map_given_label", "posterior", "replace_rows"]
