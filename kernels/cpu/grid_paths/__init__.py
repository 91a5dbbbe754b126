"""Cheapest paths on grids and samples of them, on CPU tensors."""

from emnesy_gpu.kernels.cpu.grid_paths.gibbs import run_chains
from emnesy_gpu.kernels.cpu.grid_paths.launch import (
    costs_of_classes,
    histogram,
    histogram_of_changes,
    round_costs,
    score,
    shortest_path,
)

__all__ = [
    "costs_of_classes",
    "histogram",
    "histogram_of_changes",
    "round_costs",
    "run_chains",
    "score",
    "shortest_path",
]
