"""Benchmarks end to end: data, nets, training and metrics. Imported on demand, never by ``import emnesy_gpu``."""
