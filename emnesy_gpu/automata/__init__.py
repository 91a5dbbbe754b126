"""Finite automata over hidden symbols: from rules to minimal tables. Pure NumPy, knows neither torch nor kernels."""
