"""Runs on CUDA tensors what ``kernels.cpu`` runs on CPU tensors, in Triton: a folder for every op."""
