"""Finite automata over hidden symbols: from rules to minimal tables. In NumPy; knows neither problems nor kernels."""
