"""Draws samples and runs Gibbs chains whose assignments are counted by a score, on CUDA tensors."""

from emnesy_gpu.kernels.gpu.scored.launch import add_to_histogram, histogram, run_chains, weighted_posterior

__all__ = ["add_to_histogram", "histogram", "run_chains", "weighted_posterior"]
