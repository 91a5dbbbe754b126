"""Benchmarks of time and memory: the E-steps of this package against plain implementations."""
