"""Finds cheapest paths on grids and samples them, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.grid_paths.launch import histogram, histogram_of_changes, score, shortest_path
from emnesy_gpu.kernels.gpu.grid_paths.posterior import posterior, read_labels

__all__ = ["histogram", "histogram_of_changes", "posterior", "read_labels", "score", "shortest_path"]
