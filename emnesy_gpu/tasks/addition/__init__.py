"""MNIST addition: digits learned from the sums of two numbers."""
