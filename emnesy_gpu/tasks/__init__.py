"""Benchmarks from data to metrics. ``import emnesy_gpu`` does not import them."""
